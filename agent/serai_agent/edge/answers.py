"""What HAProxy's runtime API answers, as values. Pure."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serai_agent.edge.front import PUBLIC, RATE_LIMITS, Front
from serai_agent.edge.layout import SLOT_PREFIX, TABLE

ADMIN_MAINTENANCE = 0x01 | 0x02 | 0x20
ADMIN_DRAIN = 0x08 | 0x10
CHECK_ENABLED = 0x04
CHECK_COLUMNS = 23
MAX_FAULTS = 800
ANSWERS = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")
ALERT = re.compile(r"\[ALERT\]\s*\(\d+\)\s*:\s*")


@dataclass(frozen=True)
class SeenServer:
    """One server as HAProxy has it; `up` is its check's verdict, `watched` if it has one."""

    slot: str
    name: str
    id: int
    address: str
    maxconn: int
    in_flight: int
    up: bool
    drain: bool
    maintenance: bool
    queued: int = 0
    weight: int = 1
    watched: bool = True
    check_address: str = ""
    """Where the check goes when that is another address than its own."""


@dataclass(frozen=True)
class SeenSlot:
    """One backend's counters: `current` counts queued requests too.

    `unanswered` counts requests that ended with no status at all.
    """

    name: str
    current: int
    queued: int
    total: int
    unanswered: int = 0


@dataclass(frozen=True)
class Seen:
    """All that is observed of HAProxy at one moment."""

    routes: dict[str, str]
    servers: tuple[SeenServer, ...]
    slots: dict[str, SeenSlot]
    front: Front | None = None


def parse_faults(text: str) -> str:
    """Return in one line why HAProxy ended: its alerts, else the end of all that it said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    alerts = [ALERT.sub("", line) for line in lines if ALERT.match(line)]
    return "; ".join(alerts or lines)[-MAX_FAULTS:] or "it said nothing"


def parse_map(text: str) -> dict[str, str]:
    """Read `show map`: lines of `0xREF KEY VALUE`."""
    rows = (line.split(" ", 2) for line in text.splitlines() if line.startswith("0x"))
    return {row[1]: row[2] for row in rows if len(row) == 3}


Row = Mapping[str, str]
ServerRows = dict[tuple[str, str], Row]


def parse_stat(text: str) -> tuple[dict[str, SeenSlot], ServerRows, Row | None]:
    """Read `show stat`; return slots, server rows by slot and name, and the public frontend's."""
    lines = text.lstrip("# ").splitlines()
    public: Row | None = None
    slots: dict[str, SeenSlot] = {}
    servers: ServerRows = {}
    for row in csv.DictReader(lines):
        backend, name = row.get("pxname") or "", row.get("svname") or ""
        if (backend, name) == (PUBLIC, "FRONTEND"):
            public = row
        if not backend.startswith(SLOT_PREFIX):
            continue
        if name == "BACKEND":
            slots[backend] = _slot(backend, row)
        else:
            servers[backend, name] = row
    return slots, servers, public


def parse_front(row: Row | None, info: str) -> Front | None:
    """Join the public frontend's row with `show info`; None while either is missing."""
    told = parse_info(info)
    if row is None or "Maxconn" not in told:
        return None
    return Front(
        status=row["status"],
        maxconn=_number(row["slim"]),
        process_maxconn=_number(told["Maxconn"]),
        hard_maxconn=_number(told.get("Hard_maxconn")),
        rate_limits={name: _number(told.get(key)) for name, key in RATE_LIMITS.items()},
    )


def _slot(name: str, row: Row) -> SeenSlot:
    current, total = _number(row["scur"]), _number(row["stot"])
    answered = sum(_number(row.get(f"hrsp_{kind}")) for kind in ANSWERS)
    return SeenSlot(name, current, _number(row["qcur"]), total, max(0, total - answered - current))


def parse_servers(state: str, rows: ServerRows) -> tuple[SeenServer, ...]:
    """Read `show servers state`, joined with the rows of `show stat`."""
    found = []
    for line in state.splitlines():
        parts = line.split()
        if len(parts) < 19 or not parts[1].startswith(SLOT_PREFIX):
            continue
        slot, server_id, name, address = parts[1], int(parts[2]), parts[3], parts[4]
        admin, weight, port = int(parts[6]), int(parts[7]), parts[18]
        row = rows.get((slot, name), {})
        found.append(
            SeenServer(
                slot=slot,
                name=name,
                id=server_id,
                address=f"{address}:{port}",
                maxconn=_number(row.get("slim", "")),
                in_flight=_number(row.get("scur", "")),
                up=row.get("status", "").startswith("UP"),
                drain=bool(admin & ADMIN_DRAIN) or weight == 0,
                maintenance=bool(admin & ADMIN_MAINTENANCE),
                queued=_number(row.get("qcur")),
                weight=weight,
                watched=bool(int(parts[13]) & CHECK_ENABLED),
                check_address=_check_address(parts, address, port),
            )
        )
    return tuple(found)


def _check_address(parts: Sequence[str], address: str, port: str) -> str:
    """Return where a check goes, "" for the server's own address; columns 22 and 23 tell it."""
    if len(parts) < CHECK_COLUMNS:
        return ""
    check_port, check_address = parts[21], parts[22]
    elsewhere = (
        (check_address if check_address != "-" else address)
        + ":"
        + (check_port if check_port != "0" else port)
    )
    return "" if elsewhere == f"{address}:{port}" else elsewhere


def parse_table(text: str) -> dict[str, int]:
    """Read `show table`: how many requests each API has at once, held ones included."""
    counts: dict[str, int] = {}
    for line in text.splitlines():
        if " key=" not in line or f"table: {TABLE}" in line:
            continue
        fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
        if "key" in fields and "conn_cur" in fields:
            counts[fields["key"]] = int(fields["conn_cur"])
    return counts


def parse_info(text: str) -> dict[str, str]:
    """Read `show info`: lines of `NAME: VALUE`."""
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def parse_pid(info: str) -> int | None:
    """Return the process id that `show info` tells of; None where it does not say."""
    told = parse_info(info).get("Pid", "")
    return int(told) if told.isdigit() else None


def connections_of(text: str) -> int | None:
    """Return how many connections `show info` tells of; None where it does not say: unknown."""
    told = parse_info(text).get("CurrConns", "")
    return int(told) if told.isdigit() else None


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def parse_old_workers(text: str) -> tuple[int, ...]:
    """Read the master's `show proc`: the process ids of workers that a reload retired."""
    found: list[int] = []
    old = False
    for line in text.splitlines():
        if line.startswith("#"):
            old = line.startswith("# old workers")
        parts = line.split()
        if old and len(parts) > 1 and parts[0].isdigit() and parts[1] == "worker":
            found.append(int(parts[0]))
    return tuple(found)


@dataclass(frozen=True)
class Sections:
    """The answers to several commands on one line, told apart by how each begins."""

    stat: str = ""
    servers: str = ""
    routes: str = ""
    table: str = ""
    info: str = ""


_BEGINNINGS = (
    ("# pxname,", "stat"),
    ("1\n# be_id", "servers"),
    ("0x", "routes"),
    ("# table:", "table"),
    ("Name:", "info"),
)


def parse_sections(text: str) -> Sections:
    """Split the answer to a line of `show …;show …`; a command without an answer gives ""."""
    found: dict[str, str] = {}
    for block in text.split("\n\n"):
        part = block.strip("\n")
        for beginning, name in _BEGINNINGS:
            if part.startswith(beginning):
                found[name] = part
    return Sections(**found)


def parse_seen(sections: Sections) -> Seen:
    """Read what HAProxy has of servers, slots and routes."""
    slots, rows, public = parse_stat(sections.stat)
    front = parse_front(public, sections.info)
    return Seen(parse_map(sections.routes), parse_servers(sections.servers, rows), slots, front)
