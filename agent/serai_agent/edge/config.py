"""HAProxy's configuration as text, from settings. Pure.

Everything that varies at run time (routes, weights, limits, servers) is in a map or is set over the
runtime API; the text here changes only with the settings and with the number of slots.
"""

import hashlib
from dataclasses import dataclass

from serai.routes import HELD_AT_ONCE
from serai_agent.edge.layout import (
    CLASSES,
    HELD_TABLE,
    MAX_ENDPOINT_DEPTH,
    SERVER_OPTIONS,
    TABLE,
    SlotClass,
    slot_name,
)
from serai_agent.edge.outcomes import LINE_STANDS_FOR
from serai_agent.edge.tls import Certificate, bind_line

FILES_PER_CONNECTION = 2
FILES_RESERVED = 300
MAXCONN_CAP = 100_000
MAXCONN_FLOOR = 64


def maxconn_for(file_limit: int) -> int:
    """Return how many connections a process with this limit of open files can hold."""
    # Each server's check may hold a file, too.
    reserved = max(FILES_RESERVED, file_limit // 10)
    room = (file_limit - reserved) // FILES_PER_CONNECTION
    return max(MAXCONN_FLOOR, min(MAXCONN_CAP, room))


@dataclass(frozen=True)
class ServerLine:
    """A server that a reload must keep: the same name and id as before."""

    name: str
    id: int
    address: str
    maxconn: int
    drain: bool


@dataclass(frozen=True)
class EdgeSettings:
    """How HAProxy runs; `slots` is how many slots each class has.

    It runs in its state folder, so that no path is too long for a socket. With a certificate
    clients are answered over TLS alone.
    """

    host: str
    port: int
    threads: int
    maxconn: int
    slots: dict[SlotClass, int]
    line_each_per_s: int
    """Up to this rate of an API each request has its line in the log.

    Above it successes of the version with the larger share share lines; the other one is judged by
    few requests, and each of them counts.
    """
    certificate: Certificate | None = None


LINE_EACH_PER_S = 1000
BODY_TIME_S = 30
"""How long a body of a known length may take until it, or a buffer of it, is here: until then it
takes no replica's time."""
DEFAULT_SLOTS = {kind: 32 if kind.queue_timeout_s == 30 and kind.retries else 8 for kind in CLASSES}
ROUTE_MAP = "route.map"
STATE_MAP = "gateway.map"
DRAINING = "draining"
"""The only key that the state's map may have: while it is there, the gateway tells clients to go
elsewhere, and serves those that come all the same."""
HEALTH_PATH = "/_serai/healthz"
STATS_SOCKET = "stats.sock"
LOG_SOCKET = "log.sock"
HANDOVER_SOCKET = "handover.sock"
METRICS_SOCKET = "metrics.sock"
WAKE_SOCKET = "wake.sock"
WAKE_PATH = "_serai/wake"
"""Below an endpoint: not for replicas, but for the agent, who wakes the API and tells how far it is."""
WAKES_AT_ONCE = 256
"""So many callers may follow how APIs wake, over all of them; others are told to come again."""


def render(
    settings: EdgeSettings, servers: dict[str, tuple[ServerLine, ...]], hold: str = ""
) -> str:
    """Return the whole configuration; `servers` gives those that each slot holds now.

    `hold` is the text of hold.lua: the first line names what all of this was made from.
    """
    parts = [
        _head(fingerprint(settings, hold)),
        *_apart_from_slots(settings),
        *_slots(settings, servers),
    ]
    return "\n".join(parts)


def fingerprint(settings: EdgeSettings, hold: str) -> str:
    """Return a name for a configuration apart from its servers, which change without a reload."""
    fixed = [*_apart_from_slots(settings), hold, *_slots(settings, {})]
    return hashlib.sha256("\n".join(fixed).encode()).hexdigest()[:16]


def is_made_from(text: str, mark: str) -> bool:
    """Say whether a configuration's text bears this fingerprint."""
    return text.startswith(_head(mark))


def _head(mark: str) -> str:
    return f"# Written by Serai from settings {mark}; changes are lost at the next reload."


def _apart_from_slots(settings: EdgeSettings) -> list[str]:
    fixed = [_global(settings), _defaults(), _frontend(settings), _metrics()]
    return [*fixed, _handover(), _wake()]


def _slots(settings: EdgeSettings, servers: dict[str, tuple[ServerLine, ...]]) -> list[str]:
    parts = []
    for kind in CLASSES:
        parts.append(_slot_defaults(kind, "https" if settings.certificate else "http"))
        for number in range(settings.slots.get(kind, 0)):
            name = slot_name(kind, number)
            parts.append(_slot(name, kind, servers.get(name, ())))
    return parts


def _global(settings: EdgeSettings) -> str:
    return f"""global
    log unix@{LOG_SOCKET} len 2048 format raw local0 info
    stats socket unix@{STATS_SOCKET} mode 600 level admin expose-fd listeners
    stats timeout 30s
    maxconn {settings.maxconn}
    nbthread {settings.threads}
    hard-stop-after 30m
    setenv SERAI_ROUTE_MAP {ROUTE_MAP}
    lua-load-per-thread hold.lua
    tune.lua.session-timeout 24h
    tune.bufsize 32768
"""


def _defaults() -> str:
    return f"""defaults base
    mode http
    log global
    option http-no-delay
    option abortonclose
    option dontlognull
    option idle-close-on-response
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
    timeout http-request 30s
    timeout http-keep-alive 75s
    http-reuse safe
{_errors()}"""


_FAILURES = {
    400: ("bad_request", "the request is malformed"),
    408: ("request_timeout", "the request did not arrive in time"),
    500: ("gateway_failed", "the gateway failed"),
    502: ("bad_gateway", "a replica closed the connection or sent something that is not HTTP"),
    503: ("%[lua.busy_code]", "%[lua.busy_message]"),
    504: ("timeout", "a replica did not answer in time"),
}


def _errors() -> str:
    lines = []
    for status, (code, message) in _FAILURES.items():
        # What fails before there is a request has no id to tell, and needs a text without fields.
        named = status >= 500
        retry = f' hdr retry-after "{_RETRY_AFTER}"' if status == 503 else ""
        lines.append(
            f"    http-error status {status} content-type application/json "
            f"{'lf-string' if named else 'string'} {_body(code, message, named)}{retry}"
        )
    return "\n".join(lines) + "\n"


def _body(code: str, message: str, named: bool = True) -> str:
    """Return an error body, quoted; `named` ones are log-formats that tell the request's id."""
    id_field = ',"request_id":"%[var(txn.request_id)]"' if named else ""
    return f'\'{{"error":{{"code":"{code}","message":"{message}"{id_field}}}}}\''


def _return(status: int, code: str, message: str, condition: str, retry: bool = False) -> str:
    header = f' hdr retry-after "{_RETRY_AFTER}"' if retry else ""
    return (
        f"    http-request return status {status} content-type application/json "
        f"lf-string {_body(code, message)}{header} if {condition}"
    )


_FIELDS = (
    ("api", 1, ""),
    ("backend", 3, ""),
    ("limit", 6, ",add(0)"),
    ("version", 12, ""),
)
"""What most requests need; the rest is read where it is needed, for each variable costs time."""
_DEPTH = "var(txn.route),field(2,|)"
_RETRY = "var(txn.route),field(11,|)"
_RETRY_AFTER = "%[var(txn.route),field(14,|)]"

_LOG = (
    "%[var(txn.api)]|%[var(txn.version)]|%ST|%Ta|%ts|%U|%B|%[var(txn.refused)]|%[var(txn.turn)]"
    "|%lc|%pid"
)


def _frontend(settings: EdgeSettings) -> str:
    fields = "\n".join(
        f"    http-request set-var(txn.{name}) var(txn.route),field({number},|){cast}"
        for name, number, cast in _FIELDS
    )
    return f"""frontend public from base
{bind_line(settings.host, settings.port, settings.certificate)}
    bind unix@{HANDOVER_SOCKET} accept-proxy mode 600 name handover
    log-format "{_LOG}"
    http-request set-var(txn.request_id) req.fhdr(x-request-id)
    http-request set-var(txn.request_id) uuid() if !{{ var(txn.request_id) -m reg ^[A-Za-z0-9._:/+=@-]{{1,128}}$ }}
    http-request set-header x-request-id %[var(txn.request_id)]
    http-after-response set-header x-request-id %[var(txn.request_id)] if {{ var(txn.request_id) -m found }}
    http-after-response set-header connection close if {{ str({DRAINING}),map({STATE_MAP}) -m found }}
    http-request return status 503 content-type application/json string '{{"status":"draining"}}' if {{ path {HEALTH_PATH} }} {{ str({DRAINING}),map({STATE_MAP}) -m found }}
    http-request return status 200 content-type application/json string '{{"status":"alive"}}' if {{ path {HEALTH_PATH} }}
    http-request set-var(txn.key) path,concat(/)
    http-request set-var(txn.route) var(txn.key),map_beg({ROUTE_MAP})
{_return(404, "not_found", "no API has this path", "!{ var(txn.route) -m found }")}
{fields}
{_waking()}
{_choice()}{_admission(settings.line_each_per_s)}
    use_backend %[var(txn.backend)]

backend {TABLE} from base
    stick-table type string len 64 size 10k expire 1h store conn_cur,http_req_cnt,http_req_rate(1s)

backend {HELD_TABLE} from base
    stick-table type string len 64 size 10k expire 1h store conn_cur
"""


def _waking() -> str:
    """Return the rules that pass callers who wake an API on; they are no requests for a replica."""
    rules = [
        f"    http-request set-var(txn.backend) str(wake) if to_wake {{ {_DEPTH} -m str {depth} }} "
        f"{{ path,field({depth + 2},/,0) -m str {WAKE_PATH} }}"
        for depth in range(1, MAX_ENDPOINT_DEPTH + 1)
    ]
    allow = "    http-request allow if to_wake { var(txn.backend) -m str wake }"
    return "\n".join([f"    acl to_wake path_end /{WAKE_PATH}", *rules, allow])


def _choice() -> str:
    """Return the rules that choose between the two versions of an API."""
    return """    http-request set-var(txn.pin) req.hdr(x-serai-version)
    acl has_other var(txn.route),field(4,|) -m len gt 0
    acl pinned_main var(txn.pin),strcmp(txn.version) eq 0
    acl pinned_other var(txn.pin),strcmp(txn.other_version) eq 0
    acl drawn_other rand(1000),sub(txn.weight) -m int lt 0
    http-request set-var(txn.other_version) var(txn.route),field(13,|) if has_other
    http-request set-var(txn.weight) var(txn.route),field(5,|),add(0) if has_other
    http-request set-var(txn.take_other) bool(true) if has_other pinned_other
    http-request set-var(txn.take_other) bool(true) if has_other !pinned_main drawn_other
    http-request set-var(txn.backend) var(txn.route),field(4,|) if { var(txn.take_other) -m bool }
    http-request set-var(txn.version) var(txn.other_version) if { var(txn.take_other) -m bool }
"""


def _admission(line_each_per_s: int) -> str:
    """Return the rules that refuse, count and hold requests."""
    return f"""    acl has_body req.body_size gt 0
    http-request set-var(txn.body_max) var(txn.route),field(8,|),add(0) if has_body
    http-request set-var(txn.refused) str(body) if has_body {{ req.body_size,sub(txn.body_max) gt 0 }}
{_return(413, "body_too_large", "the body is larger than this API takes", "{ var(txn.refused) -m found }")}
    http-request wait-for-body time {BODY_TIME_S}s if {{ req.hdr_val(content-length) gt 0 }}
    http-request track-sc0 var(txn.api) table {TABLE}
    http-request set-var(txn.turn) sc_http_req_cnt(0),mod({LINE_STANDS_FOR}) if {{ sc_http_req_rate(0) gt {line_each_per_s} }} !{{ var(txn.take_other) -m bool }}
    http-response set-log-level silent if {{ var(txn.turn) -m int gt 0 }} {{ status 200:399 }}
    acl handed_over so_name handover
    acl any_ready var(txn.route),field(3,|),nbsrv gt 0
    acl any_ready var(txn.route),field(4,|),nbsrv gt 0
    acl over_limit sc_conn_cur(0),sub(txn.limit) gt 0
    http-request set-var(txn.let_go) var(txn.api),table_conn_cur({HELD_TABLE}) if over_limit
    http-request set-var(txn.full) str(queue) if over_limit !handed_over any_ready {{ sc_conn_cur(0),sub(txn.limit),sub(txn.let_go) gt 0 }}
    http-request set-var(txn.full) str(hold) if over_limit !handed_over !any_ready {{ sc_conn_cur(0) gt {HELD_AT_ONCE} }}
    http-request set-var(txn.refused) var(txn.full) if {{ var(txn.full) -m found }}
{_return(429, "queue_full", "all replicas are busy and the queue is full", "{ var(txn.full) -m str queue }", retry=True)}
{_return(429, "hold_full", "no replica is ready and as many requests are held as may be", "{ var(txn.full) -m str hold }", retry=True)}
    acl ready var(txn.backend),nbsrv gt 0
    http-request set-var(txn.held_ms) req.hdr(x-serai-held-ms),add(0) if !ready handed_over
    http-request set-var(txn.was_held) bool(true) if !any_ready or handed_over
    http-request lua.hold if !ready
{_return(404, "not_found", "the API was deleted", "{ var(txn.gone) -m found }")}
{_return(503, "no_replica", "no replica became ready in time", "{ var(txn.refused) -m found }", retry=True)}
    http-request track-sc1 var(txn.api) table {HELD_TABLE} if {{ var(txn.was_held) -m bool }}
"""


def _forwarding(scheme: str) -> str:
    """Return the rules for what a replica sees."""
    depths = range(1, MAX_ENDPOINT_DEPTH + 1)
    # The path is cut last: what its depth was is no longer seen in it then.
    prefixes = "\n".join(
        f"    http-request set-header x-forwarded-prefix /%[path,field(2,/,{depth})] "
        f"if {{ {_DEPTH} -m str {depth} }}"
        for depth in depths
    )
    cuts = "\n".join(
        f"    http-request set-path /%[path,field({depth + 2},/,0)] "
        f"if {{ {_DEPTH} -m str {depth} }}"
        for depth in depths
    )
    return f"""    http-request del-header x-serai- -m beg
    http-request set-header x-serai-total-timeout-ms %[var(txn.route),field(10,|)]
    http-request set-var(txn.forwarded) req.fhdr(x-forwarded-for)
    http-request set-header x-forwarded-for "%[var(txn.forwarded)], %[src]" if {{ var(txn.forwarded) -m found }}
    http-request set-header x-forwarded-for %[src] if !{{ var(txn.forwarded) -m found }}
    http-request set-header x-forwarded-proto {scheme}
{prefixes}
{cuts}"""


def _metrics() -> str:
    return f"""frontend metrics from base
    bind unix@{METRICS_SOCKET} mode 600
    no log
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request return status 404
"""


def _handover() -> str:
    return f"""backend handover from base
    http-error status 503 content-type application/json lf-string {_body("ending", "the gateway is ending; try again")} hdr retry-after "{_RETRY_AFTER}"
    http-request set-log-level silent
    http-request del-header x-serai- -m beg
    http-request set-header x-serai-held-ms %[var(txn.held_ms)]
    http-request set-header x-serai-version %[var(txn.pin)] if {{ var(txn.pin) -m found }}
    server self unix@{HANDOVER_SOCKET} send-proxy-v2
"""


def _wake() -> str:
    away = "how far it is cannot be told now; a request to the API wakes it as well"
    return f"""backend wake from base
    timeout queue 1s
    retries 0
    http-error status 503 content-type application/json lf-string {_body("no_progress", away)} hdr retry-after "{_RETRY_AFTER}"
    http-request set-log-level silent
    http-request return status 405 content-type application/json lf-string {_body("method_not_allowed", "an API is woken by GET")} hdr allow GET if !{{ method GET }}
    http-response set-header cache-control no-store
    http-response set-header retry-after "{_RETRY_AFTER}" if {{ status 503 }}
    http-request set-uri /%[var(txn.api)]
    server agent unix@{WAKE_SOCKET} maxconn {WAKES_AT_ONCE}
"""


def _slot_defaults(kind: SlotClass, scheme: str) -> str:
    retries = (
        f"""    retries 2
    option redispatch 1
    retry-on conn-failure empty-response junk-response response-timeout 502 503 504
    http-request disable-l7-retry if !{{ {_RETRY} -m str idempotent }}"""
        if kind.retries
        else "    retries 0"
    )
    return f"""defaults slot{kind.label} from base
    balance leastconn
    timeout queue {kind.queue_timeout_s}s
    http-request set-timeout server var(txn.route),field(9,|),add(0)
    http-request set-timeout tunnel var(txn.route),field(9,|),add(0)
{_forwarding(scheme)}
{retries}
"""


def _slot(name: str, kind: SlotClass, servers: tuple[ServerLine, ...]) -> str:
    lines = [f"backend {name} from slot{kind.label}"]
    lines += [
        f"    server {server.name} {server.address} id {server.id} maxconn {server.maxconn} "
        f"{SERVER_OPTIONS}{' weight 0' if server.drain else ''}"
        for server in servers
    ]
    return "\n".join(lines) + "\n"
