"""What HAProxy is started or reloaded with: servers and routes as files. Pure."""

from collections.abc import Mapping, Sequence, Set

from serai.model import Server
from serai.routes import Route
from serai_agent.edge.answers import Seen, SeenSlot
from serai_agent.edge.config import EdgeSettings, ServerLine
from serai_agent.edge.layout import CLASSES, SlotClass, slot_name
from serai_agent.edge.plan import Target, address_of, target_of

MAX_SLOTS_PER_CLASS = 4096

Lines = dict[str, tuple[ServerLine, ...]]


def nothing_yet(settings: EdgeSettings) -> Seen:
    """Return what a HAProxy with these settings has before anything was ordered."""
    names = [slot_name(kind, n) for kind, count in settings.slots.items() for n in range(count)]
    return Seen({}, (), {name: SeenSlot(name, 0, 0, 0) for name in names})


def cold_start(
    routes: Sequence[Route], servers: Sequence[Server], empty: Seen
) -> tuple[Lines, dict[str, str]]:
    """Return the servers of each slot and the map's entries for a HAProxy that is not there yet."""
    return files_of(target_of(routes, servers, empty), routes)


def files_of(target: Target, routes: Sequence[Route]) -> tuple[Lines, dict[str, str]]:
    """Return the servers of each slot and the map's entries with which HAProxy has this target."""
    draining = {name for route in routes for name in route.draining}
    lines: Lines = {}
    for (slot, name), server in sorted(target.servers.items()):
        present = lines.get(slot, ())
        line = ServerLine(
            name=name,
            id=len(present) + 1,
            address=address_of(server),
            maxconn=server.capacity,
            drain=server.replica in draining,
        )
        lines[slot] = (*present, line)
    return lines, target.entries


def kept_lines(seen: Seen, slots: Set[str]) -> Lines:
    """Return the servers that a reload keeps: all but those already on their way out."""
    lines: Lines = {}
    for server in sorted(seen.servers, key=lambda server: server.id):
        if not server.maintenance and server.slot in slots:
            line = ServerLine(server.name, server.id, server.address, server.maxconn, server.drain)
            lines[server.slot] = (*lines.get(server.slot, ()), line)
    return lines


def grown(slots: dict[SlotClass, int], lacking: Mapping[str, int]) -> dict[SlotClass, int]:
    """Return the slots doubled, class by class (label), until none is lacking or a limit is met."""
    wider = {}
    for kind in CLASSES:
        have = slots.get(kind, 0)
        enough, count = have + lacking.get(kind.label, 0), have
        while count < enough:
            count = count * 2 or 1
        wider[kind] = max(have, min(count, MAX_SLOTS_PER_CLASS))
    return wider
