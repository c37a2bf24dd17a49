"""From what is wanted and what HAProxy has to the commands that make them agree. Pure.

The slot of an API version is read from HAProxy itself (its map, else the servers' names), so
there is no table that could disagree with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serai.model import Server
from serai.routes import Route
from serai_agent.edge.answers import Seen, SeenServer
from serai_agent.edge.layout import class_of, entry_for, parse_entry, slot_class

CHECK = "check inter 1s fall 2 rise 1"


@dataclass(frozen=True)
class Plan:
    """Commands in their order: servers first, then the map, then what goes.

    `growth` names the slot classes (labels) that have too few slots: a reload must add some
    before the rest can be carried out. `settled` says that nothing is left to do.
    """

    commands: tuple[str, ...]
    growth: tuple[str, ...]

    @property
    def settled(self) -> bool:
        return not self.commands and not self.growth


Key = tuple[str, str, str]


def plan(routes: Sequence[Route], servers: Sequence[Server], seen: Seen, map_path: str) -> Plan:
    """Return what to do now; carried out and planned again it comes to rest."""
    slots, growth = _slots(routes, seen)
    ready = _ready(routes, servers)
    wanted = _wanted_servers(routes, ready, slots)
    draining = {name for route in routes for name in route.draining}
    commands = [
        *_additions(wanted, seen, draining),
        *_map_changes(routes, ready, slots, seen, map_path),
        *_removals(wanted, seen, draining),
    ]
    return Plan(tuple(commands), growth)


def owners(seen: Seen) -> dict[str, tuple[str, str]]:
    """Return which (API, version) each slot in use belongs to."""
    found: dict[str, tuple[str, str]] = {}
    for server in seen.servers:
        found[server.slot] = _version_of(server.name)
    for text in seen.routes.values():
        entry = parse_entry(text)
        if entry is not None:
            for slot, version in (
                (entry.stable, entry.stable_version),
                (entry.canary, entry.canary_version),
            ):
                if slot:
                    found[slot] = (entry.api, version)
    return found


def _version_of(server: str) -> tuple[str, str]:
    """Return API and version from a server's name `API.VERSION.NUMBER.PROCESS`."""
    parts = server.split(".")
    return (parts[0], parts[1]) if len(parts) >= 2 else (server, "")


def _slots(
    routes: Sequence[Route], seen: Seen
) -> tuple[dict[tuple[str, str], str], tuple[str, ...]]:
    """Return the slot of each version of each route, and the classes that lack slots."""
    taken = owners(seen)
    by_key: dict[Key, str] = {}
    for slot, (api, version) in sorted(taken.items()):
        by_key.setdefault((api, version, class_of(slot)), slot)
    free = [slot for slot in sorted(seen.slots, key=_slot_order) if slot not in taken]
    assigned: dict[tuple[str, str], str] = {}
    missing: set[str] = set()
    for route in routes:
        label = slot_class(route).label
        for share in route.versions:
            known = by_key.get((route.api, share.version, label))
            slot_now = known or next((name for name in free if class_of(name) == label), None)
            if slot_now is None:
                missing.add(label)
                continue
            if known is None:
                free.remove(slot_now)
            assigned[route.api, share.version] = slot_now
    return assigned, tuple(sorted(missing))


def _slot_order(slot: str) -> tuple[str, int]:
    return class_of(slot), int(slot.rpartition("_")[2])


def _ready(routes: Sequence[Route], servers: Sequence[Server]) -> dict[str, list[Server]]:
    """Return the servers of each API that is routed."""
    ready: dict[str, list[Server]] = {route.api: [] for route in routes}
    for server in servers:
        if server.api in ready:
            ready[server.api].append(server)
    return ready


def _wanted_servers(
    routes: Sequence[Route],
    ready: dict[str, list[Server]],
    slots: dict[tuple[str, str], str],
) -> dict[tuple[str, str], Server]:
    """Return the servers that shall be there, by slot and name."""
    return {
        (slot, server.id): server
        for route in routes
        for server in ready[route.api]
        if (slot := slots.get((route.api, server.version))) is not None
    }


def _additions(
    wanted: dict[tuple[str, str], Server], seen: Seen, draining: set[str]
) -> Iterator[str]:
    known = {(server.slot, server.name): server for server in seen.servers}
    used: dict[str, int] = {}
    for old in seen.servers:
        used[old.slot] = max(used.get(old.slot, 0), old.id)
    for (slot, name), server in sorted(wanted.items()):
        there = known.get((slot, name))
        address = f"{server.host}:{server.port}"
        if there is not None and there.address != address:
            continue  # an old server of that name: it is removed first, then added anew
        if server.replica in draining:
            continue
        target = f"{slot}/{name}"
        if there is None:
            used[slot] = used.get(slot, 0) + 1
            yield f"add server {target} {address} {CHECK} maxconn {server.capacity} id {used[slot]}"
            yield f"enable health {target}"
            yield f"enable server {target}"
            continue
        if there.maxconn != server.capacity:
            yield f"set maxconn server {target} {server.capacity}"
        if there.drain or there.maintenance:
            yield f"set server {target} weight 1"
            yield f"set server {target} state ready"


def _map_changes(
    routes: Sequence[Route],
    ready: dict[str, list[Server]],
    slots: dict[tuple[str, str], str],
    seen: Seen,
    map_path: str,
) -> Iterator[str]:
    wanted: dict[str, str] = {}
    for route in routes:
        serving = {share.version for share in route.versions if share.share}
        capacity = sum(
            server.capacity
            for server in ready[route.api]
            if server.version in serving and server.replica not in route.draining
        )
        mine = {version: slot for (api, version), slot in slots.items() if api == route.api}
        wanted[route.endpoint + "/"] = entry_for(route, mine, capacity).text()
    for key, value in sorted(wanted.items()):
        if key not in seen.routes:
            yield f"add map {map_path} {key} {value}"
        elif seen.routes[key] != value:
            yield f"set map {map_path} {key} {value}"
    for key in sorted(seen.routes.keys() - wanted.keys()):
        yield f"del map {map_path} {key}"


def _removals(
    wanted: dict[tuple[str, str], Server], seen: Seen, draining: set[str]
) -> Iterator[str]:
    for server in seen.servers:
        target = f"{server.slot}/{server.name}"
        there = wanted.get((server.slot, server.name))
        stays = there is not None and f"{there.host}:{there.port}" == server.address
        if stays and there is not None and there.replica not in draining:
            continue
        if not server.drain and not server.maintenance:
            yield f"set server {target} state drain"
        elif not stays and server.in_flight == 0:
            if not server.maintenance:
                yield f"set server {target} state maint"
            yield f"del server {target}"


def in_flight_of(servers: Sequence[SeenServer]) -> dict[str, int]:
    """Return requests in flight per server name, over all slots."""
    found: dict[str, int] = {}
    for server in servers:
        found[server.name] = found.get(server.name, 0) + server.in_flight
    return found
