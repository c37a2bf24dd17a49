"""What HAProxy's runtime API answers, as values. Pure."""

import csv
import re
from dataclasses import dataclass

from serai_agent.edge.layout import SLOT_PREFIX, TABLE

ADMIN_MAINTENANCE = 0x01 | 0x02 | 0x20
ADMIN_DRAIN = 0x08 | 0x10
CHECK_ENABLED = 0x04
MAX_FAULTS = 800
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


@dataclass(frozen=True)
class SeenSlot:
    """One backend's counters: `current` counts queued requests too."""

    name: str
    current: int
    queued: int
    total: int


@dataclass(frozen=True)
class Seen:
    """All that is observed of HAProxy at one moment."""

    routes: dict[str, str]
    servers: tuple[SeenServer, ...]
    slots: dict[str, SeenSlot]


def parse_faults(text: str) -> str:
    """Return in one line why HAProxy ended: its alerts, else the end of all that it said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    alerts = [ALERT.sub("", line) for line in lines if ALERT.match(line)]
    return "; ".join(alerts or lines)[-MAX_FAULTS:] or "it said nothing"


def parse_map(text: str) -> dict[str, str]:
    """Read `show map`: lines of `0xREF KEY VALUE`."""
    rows = (line.split(" ", 2) for line in text.splitlines() if line.startswith("0x"))
    return {row[1]: row[2] for row in rows if len(row) == 3}


def parse_stat(text: str) -> tuple[dict[str, SeenSlot], dict[tuple[str, str], dict[str, str]]]:
    """Read `show stat` of backends and servers; return slots, and server rows by slot and name."""
    lines = text.lstrip("# ").splitlines()
    slots: dict[str, SeenSlot] = {}
    servers: dict[tuple[str, str], dict[str, str]] = {}
    for row in csv.DictReader(lines):
        backend, name = row.get("pxname") or "", row.get("svname") or ""
        if not backend.startswith(SLOT_PREFIX):
            continue
        if name == "BACKEND":
            slots[backend] = SeenSlot(
                backend, _number(row["scur"]), _number(row["qcur"]), _number(row["stot"])
            )
        else:
            servers[backend, name] = row
    return slots, servers


def parse_servers(
    state: str, rows: dict[tuple[str, str], dict[str, str]]
) -> tuple[SeenServer, ...]:
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
            )
        )
    return tuple(found)


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
    slots, rows = parse_stat(sections.stat)
    return Seen(parse_map(sections.routes), parse_servers(sections.servers, rows), slots)
