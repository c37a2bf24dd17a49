"""From Nomad's nodes to those of the engine. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from serai.engine import Capacity, EngineNode
from serai_scheduler.nomad.where import DEFAULT_POOL

NONE: Mapping[str, float | None] = {}
UNKNOWN: Mapping[str, Capacity] = {}


def nodes_of(
    nodes: Sequence[Mapping[str, Any]],
    deadlines: Mapping[str, float | None] = NONE,
    capacities: Mapping[str, Capacity] = UNKNOWN,
) -> tuple[EngineNode, ...]:
    """Return the nodes of a list, by name; of several of one name the one that takes replicas.

    `deadlines` says by id when Nomad comes to the end of a drain of its own, `capacities` what
    there is for replicas.
    A machine whose Nomad lost its data comes back as another node of the same name.
    """
    found: dict[str, EngineNode] = {}
    for one in nodes:
        node = msgspec.structs.replace(
            _node(one, deadlines),
            version=one.get("Version", ""),
            node_class=one.get("NodeClass") or "",
            pool=one.get("NodePool") or DEFAULT_POOL,
            capacity=capacities.get(one["ID"]),
        )
        if node.name not in found or node.takes:
            found[node.name] = node
    return tuple(found[name] for name in sorted(found))


def _node(node: Mapping[str, Any], deadlines: Mapping[str, float | None]) -> EngineNode:
    name, closed = node["Name"], node["SchedulingEligibility"] != "eligible"
    if node["Status"] != "ready":
        return EngineNode(name=name, takes=False, closed=closed, reason=f"Nomad: {node['Status']}")
    if node.get("Drain"):
        return EngineNode(
            name=name,
            takes=False,
            closed=True,
            reason="drained by Nomad",
            drains=True,
            drain_until_s=deadlines.get(node["ID"]),
        )
    if closed:
        return EngineNode(name=name, takes=False, closed=True, reason="closed to new replicas")
    return EngineNode(name=name, takes=True)
