"""The nodes as their reports tell: the newest of each, and how old it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from serai.engine import EngineNode
from serai.errors import Refused
from serai.operator import NodeStatus
from serai.report import NodeReport, ReplicaUsage
from serai.report_accept import Last, newest

SILENT_AFTER_S = 5.0
FORGET_S = 3600.0
MAX_NODES = 2000


@dataclass(frozen=True)
class _Heard:
    at_s: float
    report: NodeReport


class NodeBook:
    """Keeps the newest report of every node; `now_s` is monotonic."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Heard] = {}

    def newest(self, node: str, now_s: float) -> Last | None:
        """Return what the newest report of a node was, for `accept`; None for a silent one."""
        heard = self._nodes.get(node)
        if heard is None or now_s - heard.at_s >= SILENT_AFTER_S:
            return None
        return newest(heard.report)

    def add(self, report: NodeReport, now_s: float) -> None:
        """Keep an accepted report; Refused when too many nodes report."""
        if report.node not in self._nodes:
            self._forget(now_s)
            if len(self._nodes) >= MAX_NODES:
                raise Refused(f"{MAX_NODES} nodes report already", "too_many_nodes")
        self._nodes[report.node] = _Heard(now_s, report)

    def _forget(self, now_s: float) -> None:
        self._nodes = {
            node: heard for node, heard in self._nodes.items() if now_s - heard.at_s < FORGET_S
        }

    def statuses(self, now_s: float, nodes: Sequence[EngineNode] = ()) -> tuple[NodeStatus, ...]:
        """Return every node that reports or that the engine knows, sorted by name."""
        self._forget(now_s)
        known = {node.name: node for node in nodes}
        return tuple(
            self._status(name, now_s, known.get(name)) for name in sorted({*self._nodes, *known})
        )

    def _status(self, name: str, now_s: float, node: EngineNode | None) -> NodeStatus:
        heard = self._nodes.get(name)
        age_s = None if heard is None else now_s - heard.at_s
        return NodeStatus(
            node=name,
            state="up" if age_s is not None and age_s < SILENT_AFTER_S else "silent",
            age_s=age_s,
            report=None if heard is None else heard.report,
            takes=node is not None and node.takes,
            reason=_reason(heard, node),
            engine_version=node.version if node is not None else "",
        )

    def usage(self, now_s: float) -> dict[str, ReplicaUsage]:
        """Return what each replica uses, from reports that are fresh."""
        return {
            usage.replica: usage
            for heard in self._nodes.values()
            if now_s - heard.at_s < SILENT_AFTER_S
            for usage in heard.report.replicas
        }


def skew_s(status: NodeStatus, wall_s: float) -> float | None:
    """Return by how much a node's clock is ahead of the one that tells `wall_s`; None if unknown.

    What its report took to arrive makes it seem behind by as much.
    """
    if status.report is None or status.age_s is None:
        return None
    return status.report.sent_at_s - (wall_s - status.age_s)


def _reason(heard: _Heard | None, node: EngineNode | None) -> str:
    if node is None:
        return "the engine does not know it"
    if node.reason or heard is not None:
        return node.reason
    return "no report yet: does its serai-agent run, and with the agents' token? See its log"
