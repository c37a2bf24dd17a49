"""What `get`, `describe`, `nodes`, `plan` and `versions` show. Pure: types in, lines out."""

from serai.model import ApiState, ReplicaState
from serai.operator import (
    ALL_READY,
    ApiDescription,
    ApiList,
    ApiStatus,
    NodeList,
    NodeStatus,
    NodeWish,
    PlanAnswer,
    ReplicaStatus,
    StartProgress,
)
from serai_cli.quantities import ago, count, milliseconds, rate, size
from serai_cli.tables import PLAIN, Column, Look, table
from serai_cli.text import DIM, GREEN, RED, YELLOW, cut, paint, printable

NO_APIS = "no APIs yet; deploy one with `serai deploy FOLDER`"

STATE_COLOURS: dict[str, str] = {
    ApiState.LIVE: GREEN,
    ApiState.IDLE: DIM,
    ApiState.UPDATING: YELLOW,
    ApiState.DEGRADED: YELLOW,
    ApiState.DELETING: DIM,
    ApiState.ERROR: RED,
    ApiState.UNKNOWN: YELLOW,
    ReplicaState.READY: GREEN,
    ReplicaState.FAILED: RED,
    ReplicaState.LOST: RED,
    ReplicaState.STOPPED: DIM,
    ReplicaState.DRAINING: DIM,
    "up": GREEN,
    "silent": RED,
    "serving": GREEN,
    "candidate": YELLOW,
}

PHASES_UNDER_WAY = {
    "placed": "waits for a place",
    "environment": "gets its environment and bundle",
    "process": "starts",
    "loaded": "loads",
    "ready": "starts its other processes",
}


def state_colour(cell: str) -> str:
    """Return the colour of a state."""
    return STATE_COLOURS.get(cell, "")


def _fault_colour(cell: str) -> str:
    return RED if cell not in ("0", "-") else ""


NAME_LEAST, VERSION_LEAST, TEXT_LEAST = 12, 11, 20

API_COLUMNS = (
    Column("api", least=NAME_LEAST),
    Column("status", paint=state_colour),
    Column("endpoint", least=NAME_LEAST, drop=5),
    Column("ready", right=True),
    Column("version", least=VERSION_LEAST, drop=6),
    Column("req/s", right=True),
    Column("2xx", right=True, drop=4),
    Column("4xx", right=True, quiet="0", drop=3),
    Column("5xx", right=True, quiet="0", paint=_fault_colour),
    Column("p50", right=True, drop=2),
    Column("p99", right=True),
    Column("updated", right=True, drop=1),
)
REPLICA_COLUMNS = (
    Column("replica", least=NAME_LEAST),
    Column("state", paint=state_colour),
    Column("node", least=NAME_LEAST, drop=3),
    Column("cpu", right=True, drop=4),
    Column("memory", right=True, drop=5),
    Column("in flight", right=True, drop=6),
    Column("restarts", right=True, quiet="0", drop=2),
    Column("age", right=True, drop=1),
    Column("reason", least=TEXT_LEAST, quiet=""),
)
VERSION_COLUMNS = (
    Column("version"),
    Column("role", paint=state_colour),
    Column("ready", right=True),
    Column("req/s", right=True),
    Column("2xx", right=True),
    Column("5xx", right=True, paint=_fault_colour),
    Column("p99", right=True),
    Column("made", right=True, drop=1),
)
NODE_COLUMNS = (
    Column("node", least=NAME_LEAST),
    Column("state", paint=state_colour),
    Column("roles", least=NAME_LEAST, drop=2),
    Column("cpu", right=True),
    Column("memory free", right=True),
    Column("disk free", right=True, drop=4),
    Column("gpus", right=True),
    Column("replicas", right=True),
    Column("version", drop=1),
    Column("nomad", quiet="-", drop=2),
    Column("clock", right=True, drop=3),
    Column("report", right=True, drop=3),
    Column("reason", least=TEXT_LEAST),
)
CHANGE_COLUMNS = (
    Column("  what", least=TEXT_LEAST),
    Column("now", least=VERSION_LEAST),
    Column(""),
    Column("then", least=VERSION_LEAST),
    Column("price"),
)


# APIs --------------------------------------------------------------------------------------------


def api_list(apis: ApiList, now_s: float, look: Look = PLAIN) -> list[str]:
    """Return the list of all APIs, with the reasons of those that are not well below it."""
    if not apis.apis:
        return [NO_APIS]
    lines = table(API_COLUMNS, [_api_row(api, now_s) for api in apis.apis], look)
    news = [
        api
        for api in apis.apis
        if api.state not in ("live", "idle")
        or api.last_error
        or api.reason.startswith(f"{ALL_READY};")
    ]
    if news:
        lines += ["", *(cut(printable(f"{api.name}: {api.reason}"), look.width) for api in news)]
    return lines


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
        count(traffic.responses_2xx),
        count(traffic.responses_4xx),
        count(traffic.responses_5xx),
        milliseconds(traffic.p50_ms),
        milliseconds(traffic.p99_ms),
        ago(now_s - api.updated_at_s) if api.updated_at_s else "-",
    ]


def one_api(described: ApiDescription, now_s: float, look: Look = PLAIN) -> list[str]:
    """Return one API: its line in the list, how to call it, and why its last update failed."""
    status = described.status
    lines = api_list(ApiList(apis=(status,)), now_s, look)
    lines += ["", f"url   {status.url}", f"try   {curl(status.url)}"]
    if status.last_error:
        words = printable(f"{status.failed_version} failed: {status.last_error}")
        lines += ["", paint(words, RED) if look.colour else words]
    return lines


def curl(url: str) -> str:
    """Return a command ready to paste."""
    return f"curl {url} -H 'Content-Type: application/json' -d '{{}}'"


def description(described: ApiDescription, now_s: float, look: Look = PLAIN) -> list[str]:
    """Return everything about one API."""
    traffic = described.status.traffic
    flows = f"{traffic.in_flight} in flight, {traffic.queued} queued, {traffic.held} held"
    if described.peak_15_min is not None:
        flows += f"; highest of 15 minutes: {described.peak_15_min}"
    if traffic.mean_ms is not None:
        flows += f"; {milliseconds(traffic.mean_ms)} on average"
    if traffic.refused:
        flows += f"; {count(traffic.refused)} refused so far"
    return [
        *one_api(described, now_s, look),
        "",
        f"now   {flows}",
        "",
        *_replicas(described.replicas, now_s, look),
        "",
        *versions(described, now_s, look),
    ]


def _replicas(replicas: tuple[ReplicaStatus, ...], now_s: float, look: Look) -> list[str]:
    if not replicas:
        return ["no replicas"]
    return table(REPLICA_COLUMNS, [_replica_row(one, now_s) for one in replicas], look)


def _replica_row(one: ReplicaStatus, now_s: float) -> list[str]:
    replica = one.replica
    return [
        replica.id.partition(".")[2],
        replica.state.value,
        replica.node,
        "-" if one.cpu_cores is None else f"{one.cpu_cores:.2f}",
        size(one.memory_bytes),
        "-" if one.in_flight is None else str(one.in_flight),
        str(replica.restarts),
        ago(now_s - (replica.ended_at_s or replica.created_at_s)),
        _ending(one),
    ]


def _ending(one: ReplicaStatus) -> str:
    replica = one.replica
    how = str(replica.exit) if replica.exit and replica.state is ReplicaState.FAILED else ""
    progress = progress_of(one.start) if one.start is not None else ""
    told = (replica.reason, how if how not in replica.reason else "", progress)
    return "; ".join(part for part in told if part)


def progress_of(start: StartProgress) -> str:
    """Return what a start has taken so far, phase by phase, and how long it may take yet."""
    *done, (now, so_far_s) = start.took_s.items() or [("", 0.0)]
    took = [f"{phase} {ago(took_s)}" for phase, took_s in done if took_s >= 1.0]
    took.append(f"{PHASES_UNDER_WAY.get(now, now)} for {ago(so_far_s)}")
    if start.left_s is None:
        return ", ".join(took) + "; longer than usual"
    return ", ".join(took) + (f"; about {ago(start.left_s)} to go" if start.left_s >= 1.0 else "")


def versions(described: ApiDescription, now_s: float, look: Look = PLAIN) -> list[str]:
    """Return the versions of an API, newest first."""
    rows = [
        [
            one.version.name,
            one.role,
            str(one.ready),
            rate(one.traffic.requests_per_s),
            count(one.traffic.responses_2xx),
            count(one.traffic.responses_5xx),
            milliseconds(one.traffic.p99_ms),
            f"{ago(now_s - one.version.created_at_s)} ago",
        ]
        for one in described.versions
    ]
    return table(VERSION_COLUMNS, rows, look)


# Nodes and plans ---------------------------------------------------------------------------------


def nodes(listed: NodeList, look: Look = PLAIN) -> list[str]:
    """Return the nodes with what they have free."""
    if not listed.nodes:
        return ["no node has reported yet"]
    lines = table(NODE_COLUMNS, [_node_row(node) for node in listed.nodes], look)
    for node in listed.nodes:
        if node.waiting:
            lines += ["", f"{node.node} waits for"]
            lines += [f"  {line}" for line in node.waiting]
    return lines


def _node_state(node: NodeStatus) -> str:
    """Return in one word what matters most of a node."""
    if node.state != "up":
        return node.state
    match node.wish:
        case NodeWish.DRAIN:
            return "draining" if node.waiting else "drained"
        case NodeWish.CORDON:
            return "cordoned"
    return node.state if node.takes else "closed"


def _node_row(node: NodeStatus) -> list[str]:
    report = node.report
    if report is None or node.age_s is None:
        nomad = node.engine_version or "-"
        held = [str(node.replicas), "-", nomad, "-", "never"]
        return [node.node, _node_state(node), *["-"] * 5, *held, node.reason]
    percent = "-" if report.cpu_percent is None else f"{report.cpu_percent:.0f}%"
    return [
        node.node,
        _node_state(node),
        ",".join(report.roles),
        f"{percent} of {report.cpu_count}",
        f"{size(report.memory_available_bytes)} of {size(report.memory_total_bytes)}",
        f"{size(report.disk_free_bytes)} of {size(report.disk_total_bytes)}",
        str(len(report.gpus.readings)),
        str(node.replicas),
        report.serai_version,
        node.engine_version or "-",
        "-" if node.clock_skew_s is None else f"{round(node.clock_skew_s, 1) + 0.0:+.1f}s",
        f"{ago(node.age_s)} ago",
        node.reason,
    ]


def plan(answer: PlanAnswer, look: Look = PLAIN) -> list[str]:
    """Return what a deploy would do, change by change."""
    lines: list[str] = []
    for api in answer.apis:
        lines.append(f"{api.api}: {api.action} ({api.version}): {api.explanation}")
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
        if rows:
            lines += table(CHANGE_COLUMNS, rows, look)
        lines += [f"  note: {note}" for note in api.notes]
    return lines
