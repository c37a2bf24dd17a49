"""HAProxy's configuration as text, from settings. Pure."""

from dataclasses import dataclass
from pathlib import Path

from serai_agent.edge.layout import CLASSES, MAX_ENDPOINT_DEPTH, TABLE, SlotClass, slot_name

FILES_PER_CONNECTION = 2
FILES_RESERVED = 300
MAXCONN_CAP = 100_000
MAXCONN_FLOOR = 64


def maxconn_for(file_limit: int) -> int:
    """Return how many connections a process with this limit of open files can hold."""
    room = (file_limit - FILES_RESERVED) // FILES_PER_CONNECTION
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
    """Where and how HAProxy runs; `slots` is how many slots each class has."""

    folder: Path
    host: str
    port: int
    threads: int
    maxconn: int
    slots: dict[SlotClass, int]

    def path(self, name: str) -> Path:
        return self.folder / name


DEFAULT_SLOTS = {kind: 32 if kind.queue_timeout_s == 30 and kind.retries else 8 for kind in CLASSES}


def render(settings: EdgeSettings, servers: dict[str, tuple[ServerLine, ...]]) -> str:
    """Return the whole configuration; `servers` gives those that each slot holds now."""
    parts = [
        _global(settings),
        _defaults(),
        _frontend(settings),
        _metrics(settings),
        _handover(settings),
    ]
    for kind in CLASSES:
        parts.append(_slot_defaults(kind))
        for number in range(settings.slots.get(kind, 0)):
            name = slot_name(kind, number)
            parts.append(_slot(name, kind, servers.get(name, ())))
    return "\n".join(parts)


def _global(settings: EdgeSettings) -> str:
    return f"""# Written by Serai; changes are lost at the next reload.
global
    log {settings.path("log.sock")} len 2048 format raw local0 info
    stats socket {settings.path("stats.sock")} mode 600 level admin expose-fd listeners
    stats timeout 30s
    maxconn {settings.maxconn}
    nbthread {settings.threads}
    hard-stop-after 30m
    setenv SERAI_ROUTE_MAP {settings.path("route.map")}
    lua-load {settings.path("hold.lua")}
    tune.lua.session-timeout 24h
    tune.bufsize 32768
"""


def _defaults() -> str:
    return f"""defaults base
    mode http
    log global
    option http-no-delay
    option abortonclose
    option forwardfor
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
    503: ("no_replica_in_time", "no replica took the request in time: all were busy, or away"),
    504: ("timeout", "a replica did not answer in time"),
}


def _errors() -> str:
    lines = []
    for status, (code, message) in _FAILURES.items():
        # What fails before there is a request has no id to tell, and needs a text without fields.
        text = _body(code, message) if status >= 500 else _body(code, message, named=False)
        retry = ' hdr retry-after "1"' if status == 503 else ""
        lines.append(
            f"    http-error status {status} content-type application/json "
            f"{'lf-string' if status >= 500 else 'string'} {text}{retry}"
        )
    return "\n".join(lines) + "\n"


def _body(code: str, message: str, named: bool = True) -> str:
    """Return an error body, quoted; `named` ones are log-formats that tell the request's id."""
    if not named:
        return f'\'{{"error":{{"code":"{code}","message":"{message}"}}}}\''
    body = (
        f'{{"error":{{"code":"{code}","message":"{message}",'
        '"request_id":"%[var(txn.request_id)]"}}'
    )
    return "'" + body + "}'" if body.count("{") > body.count("}") else "'" + body + "'"


def _return(status: int, code: str, message: str, condition: str, retry: bool = False) -> str:
    header = ' hdr retry-after "%[var(txn.retry_after)]"' if retry else ""
    return (
        f"    http-request return status {status} content-type application/json "
        f"lf-string {_body(code, message)}{header} if {condition}"
    )


_FIELDS = (
    ("api", 1, ""),
    ("depth", 2, ""),
    ("backend", 3, ""),
    ("weight", 5, ",add(0)"),
    ("limit", 6, ",add(0)"),
    ("body_max", 8, ",add(0)"),
    ("server_ms", 9, ",add(0)"),
    ("retry", 11, ""),
    ("version", 12, ""),
    ("retry_after", 14, ""),
)


def _frontend(settings: EdgeSettings) -> str:
    fields = "\n".join(
        f"    http-request set-var(txn.{name}) var(txn.route),field({number},|){cast}"
        for name, number, cast in _FIELDS
    )
    strips = "\n".join(
        f"    http-request set-header x-forwarded-prefix /%[path,field(2,/,{depth})] "
        f"if !handed_over {{ var(txn.depth) -m str {depth} }}\n"
        f"    http-request set-path /%[path,field({depth + 2},/,0)] "
        f"if !handed_over {{ var(txn.depth) -m str {depth} }}"
        for depth in range(1, MAX_ENDPOINT_DEPTH + 1)
    )
    log = "%[var(txn.api)]|%[var(txn.version)]|%ST|%Ta|%ts|%U|%B|%Tw|%[var(txn.refused)]"
    return f"""frontend public from base
    bind {settings.host}:{settings.port}
    log-format "{log}"
    http-request set-var(txn.request_id) req.hdr(x-request-id) if {{ req.hdr(x-request-id) -m reg ^[A-Za-z0-9._:/+=@-]{{1,128}}$ }}
    http-request set-var(txn.request_id) uuid() if !{{ var(txn.request_id) -m found }}
    http-request set-header x-request-id %[var(txn.request_id)]
    http-after-response set-header x-request-id %[var(txn.request_id)]
    http-request return status 200 content-type application/json string '{{"status":"alive"}}' if {{ path /_serai/healthz }}
    http-request set-var(txn.key) path,concat(/)
    http-request set-var(txn.route) var(txn.key),map_beg({settings.path("route.map")})
{_return(404, "not_found", "no API has this path", "!{ var(txn.route) -m found }")}
{fields}
{_choice()}{_admission()}{strips}
    use_backend handover if handed_over
    use_backend %[var(txn.backend)]

backend {TABLE} from base
    stick-table type string len 64 size 10k expire 1h store conn_cur,http_req_cnt
"""


def _choice() -> str:
    """Return the rules that choose between the two versions of an API."""
    return """    http-request set-var(txn.pin) req.hdr(x-serai-version)
    http-request set-var(txn.other) var(txn.route),field(4,|)
    http-request set-var(txn.other_version) var(txn.route),field(13,|)
    http-request set-var(txn.draw) rand(1000)
    acl to_other var(txn.draw),sub(txn.weight) -m int lt 0
    acl pin_other var(txn.pin),strcmp(txn.other_version) eq 0
    acl pin_main var(txn.pin),strcmp(txn.version) eq 0
    acl has_other var(txn.other) -m len gt 0
    acl pinned var(txn.pin) -m found
    acl handed_over var(txn.backend) -m str handover
    http-request set-var(txn.take_other) bool(true) if has_other pinned pin_other
    http-request set-var(txn.take_other) bool(true) if has_other to_other !pin_main
    http-request set-var(txn.backend) var(txn.other) if { var(txn.take_other) -m bool }
    http-request set-var(txn.version) var(txn.other_version) if { var(txn.take_other) -m bool }
    http-request del-header x-serai- -m beg
    http-request set-header x-serai-total-timeout-ms %[var(txn.route),field(10,|)]
"""


def _admission() -> str:
    """Return the rules that refuse, count and hold requests."""
    return f"""    http-request set-header x-forwarded-proto http
    http-request set-var(txn.refused) str(body) if {{ req.hdr_val(content-length),sub(txn.body_max) gt 0 }}
{_return(413, "body_too_large", "the body is larger than this API takes", "{ var(txn.refused) -m found }")}
    http-request track-sc0 var(txn.api) table {TABLE}
    http-request set-var(txn.refused) str(queue) if {{ sc_conn_cur(0),sub(txn.limit) gt 0 }}
{_return(429, "queue_full", "all replicas are busy and the queue is full", "{ var(txn.refused) -m found }", retry=True)}
    http-request set-var(txn.ready) var(txn.backend),nbsrv
    http-request lua.hold if !{{ var(txn.ready) -m int gt 0 }}
{_return(404, "not_found", "the API was deleted", "{ var(txn.gone) -m found }")}
    http-request set-var(txn.ready) var(txn.backend),nbsrv
    http-request set-var(txn.refused) str(hold) if !{{ var(txn.ready) -m int gt 0 }} !handed_over
{_return(503, "no_replica", "no replica became ready in time", "{ var(txn.refused) -m found }", retry=True)}
"""


def _metrics(settings: EdgeSettings) -> str:
    return f"""frontend metrics from base
    bind {settings.path("metrics.sock")} mode 600
    no log
    http-request use-service prometheus-exporter if {{ path /metrics }}
    http-request return status 404
"""


def _handover(settings: EdgeSettings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "*", "") else settings.host
    return f"""backend handover from base
    server self {host}:{settings.port}
"""


def _slot_defaults(kind: SlotClass) -> str:
    retries = (
        """    retries 2
    option redispatch 1
    retry-on conn-failure empty-response response-timeout 502 503 504
    http-request disable-l7-retry if !{ var(txn.retry) -m str idempotent }"""
        if kind.retries
        else "    retries 0"
    )
    return f"""defaults slot{kind.label} from base
    balance leastconn
    timeout queue {kind.queue_timeout_s}s
    http-request set-timeout server var(txn.server_ms)
    http-request set-timeout tunnel var(txn.server_ms)
{retries}
"""


def _slot(name: str, kind: SlotClass, servers: tuple[ServerLine, ...]) -> str:
    lines = [f"backend {name} from slot{kind.label}"]
    lines += [
        f"    server {server.name} {server.address} id {server.id} maxconn {server.maxconn} "
        f"check inter 1s fall 2 rise 1{' weight 0' if server.drain else ''}"
        for server in servers
    ]
    return "\n".join(lines) + "\n"
