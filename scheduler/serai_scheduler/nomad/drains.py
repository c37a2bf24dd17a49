"""Until when Nomad itself drains a node: its list of nodes does not say, so each drain is asked for
once."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from serai.errors import Refused, Unavailable
from serai_scheduler.nomad.client import NomadClient


class Drains:
    """Keeps the deadlines of the drains that are under way."""

    def __init__(self, client: NomadClient) -> None:
        self._client = client
        self._until_s: dict[tuple[str, str], float | None] = {}

    async def deadlines(self, nodes: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """Return by node id when Nomad ends what is left there; None for never, or unknown."""
        under_way = {drain: one["ID"] for one in nodes if (drain := _drain(one)) is not None}
        self._until_s = {
            drain: self._until_s[drain] if drain in self._until_s else await self._ask(node)
            for drain, node in under_way.items()
        }
        return {node: self._until_s[drain] for drain, node in under_way.items()}

    async def _ask(self, node: str) -> float | None:
        try:
            found = await self._client.node(node)
        except (Refused, Unavailable):
            return None
        return deadline_of(found)


def _drain(node: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what tells one drain from another, None for a node that Nomad does not drain."""
    if not node.get("Drain"):
        return None
    return node["ID"], str((node.get("LastDrain") or {}).get("StartedAt", ""))


def deadline_of(node: Mapping[str, Any]) -> float | None:
    """Return when a node's drain comes to its end by force; None for one without a limit."""
    told = (node.get("DrainStrategy") or {}).get("ForceDeadline", "")
    if not told or told.startswith("0001-"):  # Go's word for no time
        return None
    return datetime.fromisoformat(told).timestamp()
