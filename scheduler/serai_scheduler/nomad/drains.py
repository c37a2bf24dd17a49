"""Until when Nomad itself drains a node: its list of nodes does not say, so each drain is asked for
once."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from serai.errors import Refused, Unavailable
from serai.tasks import cancelled
from serai_scheduler.nomad.client import NomadClient

log = logging.getLogger(__name__)

Drain = tuple[str, str]
"""A node's id and when Nomad began to drain it: what tells one drain from another."""
AT_ONCE = 4
"""How many are asked for at the same time: half of what Nomad is asked at all."""
LIMIT_S = 0.5
"""How long a look waits for what it has begun to ask; what comes later is shown later."""


class Drains:
    """Keeps the deadlines of the drains that are under way."""

    def __init__(self, client: NomadClient) -> None:
        self._client = client
        self._until_s: dict[Drain, float | None] = {}
        self._asking: dict[Drain, asyncio.Task[None]] = {}

    async def aclose(self) -> None:
        """Ask nothing any more."""
        await cancelled(*self._asking.values())
        self._asking.clear()  # one that had not begun yet did not take itself out

    async def deadlines(self, nodes: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """Return by node id when Nomad ends what is left there; None for never, or not known yet.

        Each is asked for once, in the background: many drains, or a slow Nomad, hold up no look.
        """
        under_way = {drain: one["ID"] for one in nodes if (drain := _drain(one)) is not None}
        self._until_s = {one: at_s for one, at_s in self._until_s.items() if one in under_way}
        unasked = under_way.keys() - self._until_s.keys() - self._asking.keys()
        for drain in sorted(unasked)[: AT_ONCE - len(self._asking)]:
            self._asking[drain] = asyncio.create_task(self._ask(drain, under_way[drain]))
        begun = [self._asking[drain] for drain in unasked & self._asking.keys()]
        if begun:
            await asyncio.wait(begun, timeout=LIMIT_S)
        return {node: self._until_s.get(drain) for drain, node in under_way.items()}

    async def _ask(self, drain: Drain, node: str) -> None:
        try:
            self._until_s[drain] = deadline_of(await self._client.node(node))
        except Refused:
            self._until_s[drain] = None
        except Unavailable as away:
            log.info("drain not told, asked again", extra={"node": node, "why": str(away)})
        finally:
            del self._asking[drain]


def _drain(node: Mapping[str, Any]) -> Drain | None:
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
