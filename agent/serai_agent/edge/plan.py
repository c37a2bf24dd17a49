"""From what is wanted and what HAProxy has to the commands that make them agree. Pure.

The slot of an API version is read from HAProxy itself (its map, else the servers' names), so
there is no table that could disagree with it.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from serai.model import Server
from serai.routes import Route
from serai_agent.edge.answers import Seen, SeenServer
from serai_agent.edge.layout import (
    MAX_ENDPOINT_DEPTH,
    SERVER_OPTIONS,
    class_of,
    entry_for,
    parse_entry,
    slot_class,
)

_SAFE = re.compile(r"[A-Za-z0-9._~+-]{1,128}")
_SAFE_ENDPOINT = re.compile(rf"(/[A-Za-z0-9._~-]+){{1,{MAX_ENDPOINT_DEPTH}}}")

Place = tuple[str, str]
"""A slot and the name of a server in it."""


@dataclass(frozen=True)
class Command:
    """One line for HAProxy; `leaving` marks steps of a server that goes, which may take a while."""

    api: str
    text: str
    leaving: bool = False


@dataclass(frozen=True)
class Target:
    """What HAProxy shall have: servers by place, the map's values by key.

    `growth` says how many slots each class (label) lacks; `problems` tells what of the
    orders cannot be carried out and why.
    """

    servers: dict[Place, Server]
    entries: dict[str, str]
    growth: dict[str, int]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Commands in their order: servers that come, then the map, then servers that go.

    A slot that is left drains in a later plan, when the map no longer names it and nothing waits.
    """

    commands: tuple[Command, ...]
    target: Target

    @property
    def unsettled(self) -> frozenset[str]:
        """Return the APIs whose orders HAProxy does not follow yet."""
        return frozenset(command.api for command in self.commands if not command.leaving)


def plan(routes: Sequence[Route], servers: Sequence[Server], seen: Seen, map_name: str) -> Plan:
    """Return what to do now; carried out and planned again it comes to rest."""
    target = target_of(routes, servers, seen)
    draining = {name for route in routes for name in route.draining}
    left = _in_left_slots(target, seen)
    commands = [
        *_additions(target, seen, draining, left),
        *_shares_of_left_slots(target, left),
        *_map_changes(target, seen, map_name),
        *_removals(target, seen, draining),
    ]
    return Plan(tuple(commands), target)


def target_of(routes: Sequence[Route], servers: Sequence[Server], seen: Seen) -> Target:
    """Return what HAProxy shall have, keeping every version in the slot that it has already."""
    usable = [route for route in routes if _route_problem(route) is None]
    slots, growth = _slots(usable, seen)
    ready, strange = _ready(usable, servers)
    wanted: dict[Place, Server] = {}
    entries: dict[str, str] = {}
    doubled: list[str] = []
    for route in usable:
        mine = {version: slot for (api, version), slot in slots.items() if api == route.api}
        serving = {share.version for share in route.versions if share.share}
        capacity = 0
        for server in ready[route.api]:
            if (slot := mine.get(server.version)) is not None:
                wanted[slot, server.id] = server
            if server.version in serving and server.replica not in route.draining:
                capacity += server.capacity
        if route.endpoint + "/" in entries:
            doubled.append(f"route of {route.api!r}: {route.endpoint} is another API's, too")
        entries[route.endpoint + "/"] = entry_for(route, mine, capacity).text()
    problems = [told for route in routes if (told := _route_problem(route)) is not None]
    return Target(wanted, entries, growth, (*problems, *strange, *doubled))


def _route_problem(route: Route) -> str | None:
    names = [route.api, *(share.version for share in route.versions)]
    if not all(_SAFE.fullmatch(name) for name in names):
        return f"route of {route.api!r}: a name has characters that HAProxy cannot be told"
    if not _SAFE_ENDPOINT.fullmatch(route.endpoint):
        return f"route of {route.api!r}: endpoint {route.endpoint!r} cannot be routed"
    return None


def owners(seen: Seen) -> dict[str, tuple[str, str]]:
    """Return which (API, version) each slot in use belongs to."""
    found: dict[str, tuple[str, str]] = {}
    for server in seen.servers:
        found[server.slot] = version_of(server.name)
    for text in seen.routes.values():
        entry = parse_entry(text)
        if entry is None:
            continue
        both = ((entry.stable, entry.stable_version), (entry.canary, entry.canary_version))
        for slot, version in both:
            if slot in seen.slots:
                found[slot] = (entry.api, version)
    return found


def version_of(server: str) -> tuple[str, str]:
    """Return API and version from a server's name `API.VERSION.ANYTHING`."""
    parts = server.split(".")
    return (parts[0], parts[1]) if len(parts) >= 2 else (server, "")


def _slots(
    routes: Sequence[Route], seen: Seen
) -> tuple[dict[tuple[str, str], str], dict[str, int]]:
    """Return the slot of each version of each route, and how many slots each class lacks."""
    taken = owners(seen)
    by_key: dict[tuple[str, str, str], str] = {}
    for slot, (api, version) in sorted(taken.items()):
        by_key.setdefault((api, version, class_of(slot)), slot)
    free: dict[str, list[str]] = {}
    for slot in sorted(seen.slots.keys() - taken.keys(), key=_slot_number, reverse=True):
        free.setdefault(class_of(slot), []).append(slot)
    assigned: dict[tuple[str, str], str] = {}
    missing: dict[str, int] = {}
    for route in routes:
        label = slot_class(route).label
        for share in route.versions:
            known = by_key.get((route.api, share.version, label))
            if known is not None:
                assigned[route.api, share.version] = known
            elif free.get(label):
                assigned[route.api, share.version] = free[label].pop()
            else:
                missing[label] = missing.get(label, 0) + 1
    return assigned, missing


def _slot_number(slot: str) -> int:
    return int(slot.rpartition("_")[2])


def _ready(
    routes: Sequence[Route], servers: Sequence[Server]
) -> tuple[dict[str, list[Server]], list[str]]:
    """Return the usable servers of each routed API, and what is wrong with others."""
    ready: dict[str, list[Server]] = {route.api: [] for route in routes}
    problems = []
    for server in servers:
        if server.api not in ready:
            continue
        problem = _server_problem(server)
        if problem is None:
            ready[server.api].append(server)
        else:
            problems.append(f"server {server.id!r} left out: {problem}")
    return ready, problems


def _server_problem(server: Server) -> str | None:
    if not _SAFE.fullmatch(server.id) or version_of(server.id) != (server.api, server.version):
        return "its id has to begin with API.VERSION."
    if server.capacity < 1 or not 0 < server.port < 65536:
        return "its capacity or port is out of range"
    try:
        ipaddress.ip_address(server.host)
    except ValueError:
        return f"its host {server.host!r} is not an IP address"
    return None


def address_of(server: Server) -> str:
    """Return a server's address as HAProxy shows it."""
    return f"{ipaddress.ip_address(server.host)}:{server.port}"


def _additions(
    target: Target, seen: Seen, draining: set[str], left: Mapping[str, Sequence[SeenServer]]
) -> Iterator[Command]:
    known = {(server.slot, server.name): server for server in seen.servers}
    used: dict[str, int] = {}
    for old in seen.servers:
        used[old.slot] = max(used.get(old.slot, 0), old.id)
    for (slot, name), server in sorted(target.servers.items()):
        there = known.get((slot, name))
        if server.replica in draining:
            continue
        place = f"{slot}/{name}"
        busy = sum(old.in_flight for old in left.get(name, ()))
        maxconn = max(1, server.capacity - busy)
        if there is None:
            used[slot] = used.get(slot, 0) + 1
            lines = _addition(place, server, used[slot], maxconn)
        elif there.address == address_of(server):
            lines = _corrections(place, there)
            if there.maxconn != maxconn:
                # That it grows with what ends in the slot before is nobody's damage.
                grows = busy > 0 or there.maxconn < maxconn
                yield Command(server.api, f"set maxconn server {place} {maxconn}", leaving=grows)
        else:
            continue  # an old server of that name: it is removed first, then added anew
        for line in lines:
            yield Command(server.api, line)


def _in_left_slots(target: Target, seen: Seen) -> dict[str, list[SeenServer]]:
    """Return, by name, the servers in use that stand in a slot their version has left."""
    found: dict[str, list[SeenServer]] = {}
    for there in seen.servers:
        if there.in_flight > 0 and (there.slot, there.name) not in target.servers:
            found.setdefault(there.name, []).append(there)
    return found


def _shares_of_left_slots(
    target: Target, left: Mapping[str, list[SeenServer]]
) -> Iterator[Command]:
    """Leave half of a server's room to the queue of the slot that it leaves."""
    if not left:
        return
    for (_, name), server in sorted(target.servers.items()):
        half = max(1, server.capacity // 2)
        for there in left.get(name, ()):
            if there.maxconn > half:
                place = f"{there.slot}/{name}"
                yield Command(server.api, f"set maxconn server {place} {half}", leaving=True)


def _addition(place: str, server: Server, number: int, maxconn: int) -> Iterator[str]:
    options = f"{SERVER_OPTIONS} maxconn {maxconn} id {number}"
    yield f"add server {place} {address_of(server)} {options}"
    yield f"enable health {place}"
    yield f"enable server {place}"


def _corrections(place: str, there: SeenServer) -> Iterator[str]:
    if there.weight != 1:
        yield f"set server {place} weight 1"
    if there.check_address:
        host, _, port = there.address.rpartition(":")
        yield f"set server {place} check-addr {host} port {port}"
    if not there.watched:
        yield f"enable health {place}"
    if there.drain or there.maintenance:
        yield f"set server {place} state ready"


def _map_changes(target: Target, seen: Seen, map_name: str) -> Iterator[Command]:
    for key, value in sorted(target.entries.items()):
        api = value.partition("|")[0]
        if key not in seen.routes:
            yield Command(api, f"add map {map_name} {key} {value}")
        elif seen.routes[key] != value:
            yield Command(api, f"set map {map_name} {key} {value}")
    for key in sorted(seen.routes.keys() - target.entries.keys()):
        yield Command(seen.routes[key].partition("|")[0], f"del map {map_name} {key}")


def _removals(target: Target, seen: Seen, draining: set[str]) -> Iterator[Command]:
    kept = {slot for slot, _ in target.servers} | set(_routed(target.entries.values()))
    busy = _busy_slots(seen)
    for server in seen.servers:
        place = f"{server.slot}/{server.name}"
        api, replica = version_of(server.name)[0], server.name.rpartition(".")[0]
        wanted = target.servers.get((server.slot, server.name))
        stays = wanted is not None and address_of(wanted) == server.address
        if stays and replica not in draining:
            continue
        if not server.drain and not server.maintenance:
            left = server.slot not in kept and replica not in draining
            if not (left and server.slot in busy):
                yield Command(api, f"set server {place} state drain", leaving=left)
        elif not stays and server.in_flight == 0:
            if not server.maintenance:
                yield Command(api, f"set server {place} state maint", leaving=True)
            yield Command(api, f"del server {place}", leaving=True)


def _busy_slots(seen: Seen) -> set[str]:
    """Return the slots that requests may still enter, or wait in.

    HAProxy refuses all that waits where no server takes requests.
    """
    waiting = {slot for slot, counters in seen.slots.items() if counters.queued > 0}
    waiting |= {server.slot for server in seen.servers if server.queued > 0}
    return waiting | set(_routed(seen.routes.values()))


def _routed(entries: Iterable[str]) -> Iterator[str]:
    for text in entries:
        entry = parse_entry(text)
        if entry is not None:
            yield from (slot for slot in (entry.stable, entry.canary) if slot)
