"""The nodes as their reports tell: the newest of each, and how old it is."""

from dataclasses import dataclass

from serai.errors import Refused
from serai.operator import NodeStatus
from serai.report import NodeReport, ReplicaUsage
from serai.report_accept import newest

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

    def newest(self, now_s: float) -> dict[str, tuple[float, int]]:
        """Return what the newest report of each node that is not silent was, for `accept`."""
        return {
            node: newest(heard.report)
            for node, heard in self._nodes.items()
            if now_s - heard.at_s < SILENT_AFTER_S
        }

    def add(self, report: NodeReport, now_s: float) -> None:
        """Keep an accepted report; Refused when too many nodes report."""
        if report.node not in self._nodes and len(self._nodes) >= MAX_NODES:
            raise Refused(f"{MAX_NODES} nodes report already", "too_many_nodes")
        self._nodes = {
            node: heard for node, heard in self._nodes.items() if now_s - heard.at_s < FORGET_S
        }
        self._nodes[report.node] = _Heard(now_s, report)

    def statuses(self, now_s: float) -> tuple[NodeStatus, ...]:
        """Return every node, sorted by name."""
        return tuple(
            NodeStatus(
                state="up" if now_s - heard.at_s < SILENT_AFTER_S else "silent",
                age_s=now_s - heard.at_s,
                report=heard.report,
            )
            for _, heard in sorted(self._nodes.items())
        )

    def usage(self, now_s: float) -> dict[str, ReplicaUsage]:
        """Return what each replica uses, from reports that are fresh."""
        return {
            usage.replica: usage
            for heard in self._nodes.values()
            if now_s - heard.at_s < SILENT_AFTER_S
            for usage in heard.report.replicas
        }
