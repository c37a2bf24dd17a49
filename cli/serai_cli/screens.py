"""What `get`, `describe`, `nodes`, `plan` and `versions` show. Pure: types in, lines out."""

from serai.operator import (
    ApiDescription,
    ApiList,
    ApiStatus,
    NodeList,
    NodeStatus,
    PlanAnswer,
    ReplicaStatus,
)
from serai_cli.tables import ago, cut, milliseconds, rate, size, table, without_empty

NO_APIS = "no APIs yet; deploy one with `serai deploy FOLDER`"
API_HEADER = (
    "api", "status", "endpoint", "ready", "version", "req/s", "2xx", "4xx", "5xx", "p50", "p99",
    "updated",
)  # fmt: skip
RIGHT = frozenset({"ready", "req/s", "2xx", "4xx", "5xx", "p50", "p99", "updated", "cpu", "memory"})


def api_list(apis: ApiList, now_s: float, width: int = 0) -> list[str]:
    """Return the list of all APIs, with the reasons of those that are not well below it."""
    if not apis.apis:
        return [NO_APIS]
    rows = [_api_row(api, now_s) for api in apis.apis]
    header, rows = without_empty(API_HEADER, rows, frozenset({"4xx", "5xx"}), "0")
    lines = table(header, rows, width, _right(header))
    unwell = [api for api in apis.apis if api.state not in ("live", "idle") or api.last_error]
    if unwell:
        lines += ["", *(cut(f"{api.name}: {api.reason}", width) for api in unwell)]
    return lines


def _right(header: list[str]) -> frozenset[int]:
    return frozenset(i for i, name in enumerate(header) if name in RIGHT)


def _api_row(api: ApiStatus, now_s: float) -> list[str]:
    traffic = api.traffic
    version = api.version or "-"
    return [
        api.name,
        api.state.value,
        api.endpoint,
        f"{api.ready}/{api.wanted}",
        f"{version} → {api.candidate}" if api.candidate else version,
        rate(traffic.requests_per_s),
        str(traffic.responses_2xx),
        str(traffic.responses_4xx),
        str(traffic.responses_5xx),
        milliseconds(traffic.p50_ms),
        milliseconds(traffic.p99_ms),
        ago(now_s - api.updated_at_s),
    ]


def one_api(described: ApiDescription, now_s: float, width: int = 0) -> list[str]:
    """Return one API: its line in the list, and how to call it."""
    status = described.status
    lines = api_list(ApiList(apis=(status,)), now_s, width)
    lines += ["", f"url   {status.url}", f"try   {curl(status.url)}"]
    if status.last_error:
        lines += ["", f"{status.failed_version} failed: {status.last_error}"]
    return lines


def curl(url: str) -> str:
    """Return a command ready to paste."""
    return f"curl {url} -H 'Content-Type: application/json' -d '{{}}'"


def description(described: ApiDescription, now_s: float, width: int = 0) -> list[str]:
    """Return everything about one API."""
    lines = one_api(described, now_s, width)
    traffic = described.status.traffic
    lines += [
        "",
        f"now   {traffic.in_flight} in flight, {traffic.queued} queued, {traffic.held} held",
        "",
    ]
    lines += _replicas(described.replicas, now_s, width)
    return [*lines, "", *versions(described, now_s, width)]


def _replicas(replicas: tuple[ReplicaStatus, ...], now_s: float, width: int) -> list[str]:
    header = (
        "replica", "state", "node", "cpu", "memory", "in flight", "restarts", "age", "reason",
    )  # fmt: skip
    rows = [
        [
            one.replica.id.partition(".")[2],
            one.replica.state.value,
            one.replica.node,
            "-" if one.cpu_cores is None else f"{one.cpu_cores:.2f}",
            size(one.memory_bytes),
            "-" if one.in_flight is None else str(one.in_flight),
            str(one.replica.restarts),
            ago(now_s - (one.replica.ended_at_s or one.replica.created_at_s)),
            _ending(one),
        ]
        for one in replicas
    ]
    return table(header, rows, width, _right(list(header))) if rows else ["no replicas"]


def _ending(one: ReplicaStatus) -> str:
    replica = one.replica
    how = str(replica.exit) if replica.exit and replica.state == "failed" else ""
    return "; ".join(part for part in (replica.reason, how) if part and part not in ("",))


def versions(described: ApiDescription, now_s: float, width: int = 0) -> list[str]:
    """Return the versions of an API, newest first."""
    header = ("version", "role", "ready", "req/s", "2xx", "5xx", "p99", "made")
    rows = [
        [
            one.version.name,
            one.role,
            str(one.ready),
            rate(one.traffic.requests_per_s),
            str(one.traffic.responses_2xx),
            str(one.traffic.responses_5xx),
            milliseconds(one.traffic.p99_ms),
            f"{ago(now_s - one.version.created_at_s)} ago",
        ]
        for one in described.versions
    ]
    return table(header, rows, width, _right(list(header)))


def nodes(listed: NodeList, width: int = 0) -> list[str]:
    """Return the nodes with what they have free."""
    if not listed.nodes:
        return ["no node has reported yet"]
    header = ("node", "state", "roles", "cpu", "memory free", "disk free", "gpus", "replicas",
              "version", "report")  # fmt: skip
    return table(header, [_node_row(node) for node in listed.nodes], width)


def _node_row(node: NodeStatus) -> list[str]:
    report = node.report
    percent = "-" if report.cpu_percent is None else f"{report.cpu_percent:.0f}%"
    return [
        report.node,
        node.state,
        ",".join(report.roles),
        f"{percent} of {report.cpu_count}",
        f"{size(report.memory_available_bytes)} of {size(report.memory_total_bytes)}",
        f"{size(report.disk_free_bytes)} of {size(report.disk_total_bytes)}",
        str(len(report.gpus.readings)),
        str(len(report.replicas)),
        report.serai_version,
        f"{ago(node.age_s)} ago",
    ]


def plan(answer: PlanAnswer, width: int = 0) -> list[str]:
    """Return what a deploy would do, change by change."""
    lines: list[str] = []
    for api in answer.apis:
        lines.append(f"{api.api}: {api.action} ({api.version}): {api.explanation}")
        if api.changes:
            rows = [
                [
                    f"  {change.path}",
                    change.before,
                    "→",
                    change.after,
                    "new replicas" if change.restarts else "no restart",
                ]
                for change in api.changes
            ]
            lines += table(("  what", "now", "", "then", "price"), rows, width)
    return lines
