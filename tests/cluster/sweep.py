"""What belongs to nobody: store, Nomad, Consul, HAProxy, processes and caches compared. Pure.

All is taken as seen at one moment, which it cannot be: what is on its way shows, too. Whoever
sweeps does so until nothing shows any more.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from serai import wire
from serai.cache_names import BUNDLES, ENVIRONMENTS
from serai.consul.gateways import GATEWAY_SERVICE
from serai.consul.leader import LEADER
from serai.consul.services import api_of
from serai.model import Version, replica_of_server
from serai.operator import NodeWish
from serai.routes import ROUTES, Route
from serai_agent.edge.answers import Seen, SeenServer
from serai_agent.edge.files import LastGood
from serai_agent.edge.layout import parse_entry
from serai_scheduler.nomad.names import JobName, number_of, parse_id, replica_id
from serai_scheduler.nomad.places import places_of
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.record import APIS, LEARNED, NODES, VERSIONS, ApiRecord, NodeIntent

UNFINISHED = "unfinished"
WISH = "wish"
FILE_OF_NO_BUNDLE = "file of no bundle"


@dataclass(frozen=True)
class Allocation:
    """One of Nomad's: `wanted` says that it is to run, `alive` that it has not ended."""

    id: str
    job: str
    group: str
    node: str
    ports: frozenset[int] = frozenset()
    wanted: bool = True
    alive: bool = True


@dataclass(frozen=True)
class Instance:
    """One instance of a service; `owner` is the replica or the gateway that it names.

    `where` is Consul's catalog or one of its agents, which may differ.
    """

    where: str
    service: str
    id: str
    node: str
    owner: str
    port: int = 0


@dataclass(frozen=True)
class Check:
    """A check as Consul's agent of a node has it, and the instance that it is of."""

    node: str
    id: str
    instance: str


@dataclass(frozen=True)
class Gateway:
    """One HAProxy, and what its node keeps for the next one."""

    node: str
    seen: Seen
    kept: LastGood | None = None


@dataclass(frozen=True)
class Process:
    """A process in a machine's network; `allocation` is the one that it names, "" for none."""

    machine: str
    id: int
    parent: int
    command: str
    allocation: str = ""


@dataclass(frozen=True)
class Cached:
    """A thing in a node's cache; `whole` says that whoever put it there came to the end."""

    node: str
    kind: str
    name: str
    whole: bool = True


@dataclass(frozen=True)
class World:
    """All that was seen. `entries` are the store's keys and values, `sessions` names of Consul's.

    `nodes` says of each whether it takes replicas, `jobs` which numbers each of ours is to run.
    `programs` are the processes that were started as such: the engines' agents, Serai's, HAProxy.
    """

    entries: Mapping[str, bytes] = field(default_factory=dict)
    sessions: tuple[str, ...] = ()
    nodes: Mapping[str, bool] = field(default_factory=dict)
    jobs: Mapping[str, frozenset[int]] = field(default_factory=dict)
    allocations: tuple[Allocation, ...] = ()
    instances: tuple[Instance, ...] = ()
    checks: tuple[Check, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    processes: tuple[Process, ...] = ()
    programs: frozenset[int] = frozenset()
    caches: tuple[Cached, ...] = ()


@dataclass(frozen=True)
class Known:
    """Who things may belong to; `replicas` are those that live and are to live, by their ids."""

    records: Mapping[str, ApiRecord]
    versions: Mapping[tuple[str, str], Version]
    routes: Mapping[str, Route]
    intents: Mapping[str, NodeIntent]
    replicas: Mapping[str, Allocation]


def findings(world: World, settings: JobSettings) -> list[str]:
    """Return a line for each thing that belongs to nobody: what, where, and why it does not.

    `settings` are those that jobs are made with.
    """
    known = known_of(world, settings.prefix)
    return [
        *_store(world, known),
        *_sessions(world),
        *_nodes(world, known),
        *_jobs(world, known, settings.prefix),
        *_allocations(world, settings.prefix),
        *_instances(world, known),
        *(line for one in world.gateways for line in _gateway(one, known)),
        *_processes(world),
        *_caches(world, known, settings),
    ]


def known_of(world: World, prefix: str) -> Known:
    """Read the store, and find the replicas that it wants and Nomad has."""
    records: dict[str, ApiRecord] = {}
    versions: dict[tuple[str, str], Version] = {}
    routes: dict[str, Route] = {}
    intents: dict[str, NodeIntent] = {}
    for key, value in world.entries.items():
        if key.startswith(APIS):
            records[key.removeprefix(APIS)] = wire.decode(value, ApiRecord)
        elif key.startswith(VERSIONS):
            api, _, name = key.removeprefix(VERSIONS).partition("/")
            versions[api, name] = wire.decode(value, Version)
        elif key.startswith(ROUTES):
            routes[key.removeprefix(ROUTES)] = wire.decode(value, Route)
        elif key.startswith(NODES):
            intents[key.removeprefix(NODES)] = wire.decode(value, NodeIntent)
    replicas = {
        replica: one
        for one in world.allocations
        if (replica := _replica_of(one, prefix))
        and (one.alive and one.wanted)
        and int(one.group) in world.jobs.get(one.job, ())
    }
    return Known(records, versions, routes, intents, replicas)


def _replica_of(allocation: Allocation, prefix: str) -> str:
    name, number = parse_id(prefix, allocation.job), number_of(allocation.group)
    return replica_id(name, number) if name is not None and number is not None else ""


# The store ---------------------------------------------------------------------------------------


def _store(world: World, known: Known) -> Iterator[str]:
    for key in world.entries:
        if not _is_ours(key, known):
            yield f"store: {key}: no part of Serai has such a key now"
    for api, name in known.versions:
        if api not in known.records:
            yield f"store: version {name} of {api}: there is no such API"
    for api, route in known.routes.items():
        if api not in known.records:
            yield f"store: route of {api}: there is no such API"
        for share in route.versions:
            if (api, share.version) not in known.versions:
                yield f"store: route of {api}: there is no version {share.version}"
    for api, record in known.records.items():
        yield from _record(api, record, known)


def _is_ours(key: str, known: Known) -> bool:
    if key.startswith(LEARNED):
        return key.removeprefix(LEARNED) in known.records
    return key == LEADER or key.startswith((APIS, VERSIONS, ROUTES, NODES))


def _record(api: str, record: ApiRecord, known: Known) -> Iterator[str]:
    for version in record.versions:
        if (api, version) not in known.versions:
            yield f"store: record of {api}: there is no version {version}"
    draining = {entry.replica for entry in record.draining}
    if api in known.routes:
        draining |= set(known.routes[api].draining)
    for replica in sorted(draining - known.replicas.keys()):
        yield f"store: {api} drains {replica}: no such replica lives"
    living = {replica.rpartition(".")[0] for replica in known.replicas}
    for old in record.retiring:
        if f"{api}.{old.version}" not in living:
            yield f"store: {api} retires {old.version}: no replica of it lives"


def _sessions(world: World) -> Iterator[str]:
    for name, count in Counter(world.sessions).items():
        if count > 1:
            yield f"Consul: {count} sessions called {name}: a scheduler has one"


def _nodes(world: World, known: Known) -> Iterator[str]:
    for node in known.intents:
        if node not in world.nodes:
            yield f"store: an intent for {node}: Nomad has no such node"
    for node, takes in world.nodes.items():
        intent = known.intents.get(node)
        if not takes and (intent is None or intent.wish is NodeWish.OPEN):
            yield f"Nomad: node {node} is closed: nobody wants it so"


# Nomad and Consul --------------------------------------------------------------------------------


def _jobs(world: World, known: Known, prefix: str) -> Iterator[str]:
    for job, numbers in world.jobs.items():
        name = parse_id(prefix, job)
        if name is None or not numbers:  # somebody else's, or a stopped one: Nomad's history
            continue
        if why := _why_no_version_runs(name, known):
            yield f"Nomad: job {job} runs {len(numbers)} replicas: {why}"


def _why_no_version_runs(name: JobName, known: Known) -> str:
    record = known.records.get(name.api)
    if record is None:
        return f"the store has no API {name.api}"
    return "" if name.version in record.versions else f"{name.api} wants no {name.version} now"


def _allocations(world: World, prefix: str) -> Iterator[str]:
    alive: dict[str, list[Allocation]] = {}
    for one in world.allocations:
        replica = _replica_of(one, prefix)
        if not replica or not one.alive:
            continue
        alive.setdefault(replica, []).append(one)
        where = f"Nomad: allocation {one.id[:8]} of {replica} on {one.node}"
        if not one.wanted:
            yield f"{where}: it is to end, and has not"
        elif int(one.group) not in world.jobs.get(one.job, ()):
            yield f"{where}: its job does not want it"
        if one.node not in world.nodes:
            yield f"{where}: Nomad has no such node"
    for replica, mine in alive.items():
        if len(mine) > 1:
            places = ", ".join(sorted(f"{one.id[:8]} on {one.node}" for one in mine))
            yield f"Nomad: {replica} runs {len(mine)} times ({places}): it was asked for once"


def _instances(world: World, known: Known) -> Iterator[str]:
    gateways = {one.node for one in world.gateways}
    for one in world.instances:
        where = f"{one.where}: {one.id} on {one.node}"
        if one.service == GATEWAY_SERVICE:
            if one.owner not in gateways:
                yield f"{where}: there is no gateway {one.owner}"
            elif one.owner != one.node:
                yield f"{where}: gateway {one.owner} is not on this node"
        elif api_of(one.service) is not None:
            replica = known.replicas.get(one.owner)
            if replica is None:
                yield f"{where}: no replica {one.owner or 'without a name'} lives"
            elif replica.node != one.node or one.port not in replica.ports:
                yield f"{where}: {one.owner} is on {replica.node}, with other ports than {one.port}"
    for check in world.checks:
        if not any((one.node, one.id) == (check.node, check.instance) for one in world.instances):
            yield f"Consul: check {check.id} on {check.node}: its instance is not there"


# Gateways ----------------------------------------------------------------------------------------


def _gateway(gateway: Gateway, known: Known) -> Iterator[str]:
    where, used = f"HAProxy of {gateway.node}", set[str]()
    for key, text in gateway.seen.routes.items():
        entry = parse_entry(text)
        route = known.routes.get(entry.api) if entry is not None else None
        if entry is None or route is None or f"{route.endpoint}/" != key:
            yield f"{where}: entry {key} of the map: no API has this endpoint"
            continue
        used |= {entry.stable, entry.canary} - {""}
        for version in {entry.stable_version, entry.canary_version} - {""}:
            if version not in {share.version for share in route.versions}:
                yield f"{where}: entry {key} of the map: no route names {version}"
    for server in gateway.seen.servers:
        if why := _why_no_server(server, used, known):
            yield f"{where}: server {server.name} in {server.slot}: {why}"
    for slot in gateway.seen.slots.values():
        if slot.current and slot.name not in used:
            yield f"{where}: {slot.current} requests in {slot.name}: no route leads there"
    if gateway.kept is not None:
        yield from _kept(gateway.node, gateway.kept, known)


def _why_no_server(server: SeenServer, used: set[str], known: Known) -> str:
    replica = known.replicas.get(replica_of_server(server.name))
    if replica is None:
        return "its replica does not live"
    if int(server.address.rpartition(":")[2]) not in replica.ports:
        return f"its replica does not serve at {server.address}"
    return "" if server.slot in used else "no route leads there"


def _kept(node: str, kept: LastGood, known: Known) -> Iterator[str]:
    for route in kept.routes:
        if route.api not in known.routes:
            yield f"last orders kept by {node}: route of {route.api}: the store has none"
    for server in kept.servers:
        if server.replica not in known.replicas:
            yield f"last orders kept by {node}: server {server.id}: its replica does not live"


# Nodes -------------------------------------------------------------------------------------------


def _processes(world: World) -> Iterator[str]:
    parents = {one.id: one.parent for one in world.processes}
    alive = {(one.id, one.node) for one in world.allocations if one.alive}
    for one in world.processes:
        where = f"{one.machine}: process {one.id} ({one.command[:120]})"
        if one.allocation:
            if (one.allocation, one.machine) not in alive:
                yield f"{where}: its allocation {one.allocation[:8]} has ended"
            continue
        ancestor = one.id
        while ancestor not in world.programs and ancestor in parents:
            ancestor = parents[ancestor]
        if ancestor not in world.programs:
            yield f"{where}: no program of the machine has it"


def _caches(world: World, known: Known, settings: JobSettings) -> Iterator[str]:
    needed: set[tuple[str, str]] = set()
    for version in known.versions.values():
        places = places_of(version, settings)
        needed.add((ENVIRONMENTS, places.environment.rpartition("/")[2]))
        needed.add((BUNDLES, places.bundle.rpartition("/")[2]))
    for one in world.caches:
        where = f"cache of {one.node}: {one.kind} {one.name}"
        if one.kind == UNFINISHED:
            yield f"{where}: nobody comes back to it"
        elif one.kind == WISH:
            yield f"{where}: no replica waits for it"
        elif one.kind == FILE_OF_NO_BUNDLE:
            yield f"{where}: no bundle has it"
        elif not one.whole:
            yield f"{where}: it is not whole, and never will be"
        elif (one.kind, one.name) not in needed:
            yield f"{where}: no version in the store needs it"
