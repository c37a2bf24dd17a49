"""What to do about the nodes now: which to close or open, and whose replicas are to go. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serai.engine import EngineNode
from serai.model import Replica, ReplicaState
from serai.operator import NodeWish
from serai_scheduler.record import ApiRecord, NodeIntent
from serai_scheduler.world import Leaving, age_s

REPLICAS_TOLD = 5


@dataclass(frozen=True)
class Take:
    """Let a node take new replicas, or none."""

    node: str
    takes: bool


@dataclass(frozen=True)
class NodePlan:
    """Orders to the engine, the intents that are fulfilled and can be forgotten, and who leaves."""

    orders: tuple[Take, ...]
    fulfilled: tuple[str, ...]
    leaving: Leaving


def plan_nodes(
    intents: Mapping[str, NodeIntent],
    nodes: Sequence[EngineNode],
    now_s: float,
    began_s: float = 0.0,
) -> NodePlan:
    """Return what brings the nodes to what operators want of them; times are wall-clock seconds.

    `began_s` is when the leader began to lead: stamps of others count from then.
    An intent for a node that the engine does not know waits until it is back.
    """
    known = {node.name: node for node in nodes}
    orders: list[Take] = []
    fulfilled: list[str] = []
    for name, intent in intents.items():
        node = known.get(name)
        if node is None:
            continue
        if intent.wish is NodeWish.OPEN:
            if node.closed:
                orders.append(Take(name, True))
            else:
                fulfilled.append(name)
        elif not node.closed:
            orders.append(Take(name, False))
    drained = [one for one in intents.values() if one.wish is NodeWish.DRAIN]
    overdue = [
        one.node
        for one in drained
        if one.limit_s is not None and age_s(now_s, one.since_s, began_s) >= one.limit_s
    ]
    leaving = Leaving(frozenset(one.node for one in drained), frozenset(overdue))
    return NodePlan(tuple(orders), tuple(fulfilled), leaving)


def waits_for(
    node: str,
    replicas: Sequence[Replica],
    records: Mapping[str, ApiRecord],
    in_flight: Mapping[str, int],
) -> tuple[str, ...]:
    """Return what keeps a node from being empty: a line for each replica that is still there."""
    lines = []
    for replica in sorted(replicas, key=lambda one: one.id):
        if not _is_on(replica, node):
            continue
        record = records.get(replica.api)
        going = {entry.replica for entry in record.draining} if record is not None else set()
        count = in_flight.get(replica.id, 0)
        if replica.state is ReplicaState.DRAINING:
            lines.append(f"{replica.id}: it is ending")
        elif replica.id in going:
            lines.append(f"{replica.id}: {count} request{'s' if count != 1 else ''} in flight")
        else:
            lines.append(f"{replica.id}: until another is ready: {_others(replica, replicas)}")
    return tuple(lines)


def engine_drain_waits_for(
    node: EngineNode, replicas: Sequence[Replica], now_s: float
) -> tuple[str, ...]:
    """Return what the engine's own drain of a node waits for; nothing where it drains none."""
    left = [one.id for one in sorted(replicas, key=lambda one: one.id) if _is_on(one, node.name)]
    if not node.drains or not left:
        return ()
    if node.drain_until_s is None:
        limit = "without a limit"
    else:
        limit = f"those left in {max(0.0, node.drain_until_s - now_s):.0f} s are ended"
    count = f"{len(left)} replica{'s' if len(left) != 1 else ''}"
    told = ", ".join(left[:REPLICAS_TOLD]) + (", …" if len(left) > REPLICAS_TOLD else "")
    return (f"Nomad to move {count} elsewhere, {limit}: {told}",)


def _is_on(replica: Replica, node: str) -> bool:
    return replica.node == node and replica.alive


def _others(replica: Replica, replicas: Sequence[Replica]) -> str:
    """Say how those come along that are to take over."""
    coming = [
        one
        for one in replicas
        if one.version == replica.version
        and one.node != replica.node
        and one.state in (ReplicaState.PENDING, ReplicaState.STARTING, ReplicaState.LOADING)
    ]
    reasons = sorted({one.reason or one.state.value for one in coming})
    return "; ".join(reasons) or "none has been started yet"
