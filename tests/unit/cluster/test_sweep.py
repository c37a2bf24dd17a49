"""The sweep finds each sort of thing that belongs to nobody, and nothing where all is in order."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from serai import wire
from serai.cache_names import BUNDLES, ENVIRONMENTS
from serai.model import Server, Version
from serai.operator import NodeWish
from serai.routes import Route
from serai_agent.edge.answers import Seen, SeenServer, SeenSlot
from serai_agent.edge.files import LastGood
from serai_agent.edge.layout import entry_for
from serai_scheduler.nomad.places import places_of
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.record import (
    ApiRecord,
    Draining,
    NodeIntent,
    Retiring,
    api_key,
    node_key,
    route_key,
    version_key,
)
from serai_scheduler.route import route_of
from tests.cluster.sweep import (
    FILE_OF_NO_BUNDLE,
    UNFINISHED,
    WISH,
    Allocation,
    Cached,
    Check,
    Gateway,
    Instance,
    Process,
    World,
    findings,
)
from tests.support.scheduling import NOW_S, deployed, spec
from tests.unit.nomad.values import predictor

SETTINGS = JobSettings()
API, NODE, PORT, SLOT = "iris", "client1", 21_000, "slot_030_0"


def served() -> tuple[ApiRecord, Version, Route]:
    """Return an API with one replica of its only version, and its route."""
    _, stored = deployed(None, spec(API))
    assert stored.record.candidate is not None
    version = stored.versions[stored.record.candidate.version]
    record = msgspec.structs.replace(stored.record, stable=version.name, candidate=None)
    route = route_of(record, epoch=1)
    assert route is not None
    return record, version, route


RECORD, VERSION, ROUTE = served()
JOB, REPLICA = f"serai-{API}--{VERSION.name}", f"{API}.{VERSION.name}.1"
SERVICE = f"serai-api-{API}"
ALLOCATION = Allocation("a1b2c3d4-1", JOB, "1", NODE, frozenset({PORT}))
INSTANCE = Instance("Consul's catalog", SERVICE, "_nomad-task-1", NODE, REPLICA, PORT)
PREDICTOR = predictor()
PLACES = places_of(PREDICTOR, SETTINGS)


def server(name: str = f"{REPLICA}.0", slot: str = SLOT, port: int = PORT) -> SeenServer:
    return SeenServer(
        slot=slot,
        name=name,
        id=1,
        address=f"10.0.0.1:{port}",
        maxconn=4,
        in_flight=0,
        up=True,
        drain=False,
        maintenance=False,
    )


def good(replica: str = REPLICA, api: str = API) -> LastGood:
    one = Server(
        id=f"{replica}.0",
        replica=replica,
        api=api,
        version=VERSION.name,
        host="10.0.0.1",
        port=PORT,
        capacity=4,
    )
    route = msgspec.structs.replace(ROUTE, api=api)
    return LastGood(routes=(route,), servers=(one,), slots={"030": 1})


def in_order() -> World:
    """Return a cluster in which everything belongs to somebody."""
    entries = {
        "leader": b'{"epoch":1,"address":"http://server1:7070"}',
        api_key(API): wire.encode(RECORD),
        version_key(API, VERSION.name): wire.encode(VERSION),
        version_key(API, PREDICTOR.name): wire.encode(PREDICTOR),
        route_key(API): wire.encode(ROUTE),
    }
    seen = Seen(
        routes={f"/{API}/": entry_for(ROUTE, {VERSION.name: SLOT}, 4).text()},
        servers=(server(),),
        slots={SLOT: SeenSlot(SLOT, 3, 0, 9), "slot_030_1": SeenSlot("slot_030_1", 0, 0, 7)},
    )
    gateway = Instance("Consul's catalog", "serai-gateway", "serai-gateway-client1", NODE, NODE)
    return World(
        entries=entries,
        sessions=("serai-scheduler http://server1:7070", "serai-scheduler http://server2:7070"),
        nodes={NODE: True, "client2": True},
        jobs={JOB: frozenset({1}), f"serai-{API}--v9-00000000": frozenset()},
        allocations=(ALLOCATION, replace(ALLOCATION, id="old", alive=False, wanted=False)),
        instances=(INSTANCE, gateway),
        checks=(Check(NODE, "check-1", INSTANCE.id),),
        gateways=(Gateway(NODE, seen, good()),),
        processes=(
            Process(NODE, 10, 1, "nomad agent"),
            Process(NODE, 11, 10, "a child of Nomad's"),
            Process(NODE, 12, 1, "python -m serai_runtime", ALLOCATION.id),
        ),
        programs=frozenset({10}),
        caches=(
            Cached(NODE, ENVIRONMENTS, PLACES.environment.rpartition("/")[2]),
            Cached(NODE, BUNDLES, PLACES.bundle.rpartition("/")[2]),
        ),
    )


def found(world: World) -> list[str]:
    return findings(world, SETTINGS)


def test_nothing_is_found_where_all_is_in_order() -> None:
    assert found(in_order()) == []


def stored(key: str, value: object) -> Callable[[World], World]:
    data = wire.encode(value)
    return lambda world: replace(world, entries={**world.entries, key: data})


def without(key: str) -> Callable[[World], World]:
    return lambda world: replace(
        world, entries={name: data for name, data in world.entries.items() if name != key}
    )


def more(field: str, *things: object) -> Callable[[World], World]:
    def change(world: World) -> World:
        changed = {field: (*getattr(world, field), *things)}
        return replace(world, **changed)  # type: ignore[arg-type]  # checked by the tests

    return change


def at_gateway(**changes: object) -> Callable[[World], World]:
    def change(world: World) -> World:
        (one,) = world.gateways
        return replace(world, gateways=(replace(one, seen=replace(one.seen, **changes)),))  # type: ignore[arg-type]

    return change


DRAINING = Draining(replica=f"{API}.{VERSION.name}.7", since_s=NOW_S, revision=2)
RETIRING = Retiring(version="v3-00000000", since_s=NOW_S, revision=2)
CORDONED = NodeIntent(node="client9", wish=NodeWish.CORDON, since_s=NOW_S)
OTHER_JOB = f"serai-{API}--v2-00000000"
OTHER_REPLICA = f"{API}.{VERSION.name}.2"

ORPHANS: dict[str, tuple[Callable[[World], World], str]] = {
    "a key of nobody": (stored("more/x", 1), "no part of Serai has such a key"),
    "a version without its API": (
        stored(version_key("gone", "v1-00000000"), VERSION),
        "version v1-00000000 of gone: there is no such API",
    ),
    "a route without its API": (
        stored(route_key("gone"), ROUTE),
        "route of gone: there is no such API",
    ),
    "a route to a version that is gone": (
        without(version_key(API, VERSION.name)),
        f"route of {API}: there is no version {VERSION.name}",
    ),
    "a drained replica that is gone": (
        stored(api_key(API), msgspec.structs.replace(RECORD, draining=(DRAINING,))),
        f"drains {DRAINING.replica}: no such replica lives",
    ),
    "a retired version that is gone": (
        stored(api_key(API), msgspec.structs.replace(RECORD, retiring=(RETIRING,))),
        "retires v3-00000000: no replica of it lives",
    ),
    "an intent for a node that is gone": (
        stored(node_key("client9"), CORDONED),
        "intent for client9: Nomad has no such node",
    ),
    "a node that nobody closed": (
        lambda world: replace(world, nodes={**world.nodes, "client2": False}),
        "node client2 is closed: nobody wants it so",
    ),
    "a session too many": (
        more("sessions", "serai-scheduler http://server1:7070"),
        "2 sessions called serai-scheduler http://server1:7070",
    ),
    "a job of a version that is gone": (
        lambda world: replace(world, jobs={**world.jobs, OTHER_JOB: frozenset({1, 2})}),
        f"job {OTHER_JOB} runs 2 replicas: {API} wants no v2-00000000 now",
    ),
    "a job of an API that is gone": (
        without(api_key(API)),
        f"the store has no API {API}",
    ),
    "an allocation that its job does not want": (
        more("allocations", replace(ALLOCATION, id="stray", group="2")),
        f"allocation stray of {OTHER_REPLICA} on client1: its job does not want it",
    ),
    "an allocation that has not ended": (
        more("allocations", replace(ALLOCATION, id="late", group="2", wanted=False)),
        "it is to end, and has not",
    ),
    "an allocation on a node that is gone": (
        more("allocations", replace(ALLOCATION, id="lost", node="client9")),
        "on client9: Nomad has no such node",
    ),
    "a replica that runs twice": (
        more("allocations", replace(ALLOCATION, id="twice", node="client2")),
        f"{REPLICA} runs 2 times (a1b2c3d4 on client1, twice on client2)",
    ),
    "a service of a replica that is gone": (
        more("instances", replace(INSTANCE, owner=OTHER_REPLICA)),
        f"no replica {OTHER_REPLICA} lives",
    ),
    "a service at a port of before": (
        more("instances", replace(INSTANCE, port=1)),
        f"{REPLICA} is on client1, with other ports than 1",
    ),
    "a gateway that is gone": (
        more("instances", Instance("Consul's catalog", "serai-gateway", "g", NODE, "client9")),
        "there is no gateway client9",
    ),
    "a gateway registered elsewhere": (
        more("instances", Instance("Consul's catalog", "serai-gateway", "g", "client2", NODE)),
        "gateway client1 is not on this node",
    ),
    "a check of no instance": (
        more("checks", Check(NODE, "check-2", "gone")),
        "check check-2 on client1: its instance is not there",
    ),
    "an endpoint of no API": (
        at_gateway(routes={**in_order().gateways[0].seen.routes, "/gone/": "gone|1"}),
        "HAProxy of client1: entry /gone/ of the map: no API has this endpoint",
    ),
    "a server whose replica is gone": (
        at_gateway(servers=(server(), server(f"{OTHER_REPLICA}.0"))),
        f"server {OTHER_REPLICA}.0 in {SLOT}: its replica does not live",
    ),
    "a server at a port of before": (
        at_gateway(servers=(server(port=1),)),
        "its replica does not serve at 10.0.0.1:1",
    ),
    "a server in a slot that was left": (
        at_gateway(servers=(server(), server(slot="slot_030_1"))),
        f"server {REPLICA}.0 in slot_030_1: no route leads there",
    ),
    "requests in a slot that was left": (
        at_gateway(slots={"slot_030_1": SeenSlot("slot_030_1", 2, 0, 7)}),
        "2 requests in slot_030_1: no route leads there",
    ),
    "a kept server whose replica is gone": (
        lambda world: replace(
            world, gateways=(replace(world.gateways[0], kept=good(OTHER_REPLICA)),)
        ),
        f"last orders kept by client1: server {OTHER_REPLICA}.0: its replica does not live",
    ),
    "a kept route of an API that is gone": (
        lambda world: replace(world, gateways=(replace(world.gateways[0], kept=good(api="gone")),)),
        "last orders kept by client1: route of gone: the store has none",
    ),
    "a process of an allocation that has ended": (
        more("processes", Process(NODE, 13, 1, "python", "old")),
        "client1: process 13 (python): its allocation old has ended",
    ),
    "a process of an allocation of another machine": (
        more("processes", Process("client2", 13, 1, "python", ALLOCATION.id)),
        "client2: process 13 (python): its allocation a1b2c3d4 has ended",
    ),
    "a process that outlived its program": (
        more("processes", Process(NODE, 14, 99, "a probe"), Process(NODE, 15, 14, "its child")),
        "process 14 (a probe): no program of the machine has it",
    ),
    "half an environment": (
        more("caches", Cached(NODE, ENVIRONMENTS, "3.11-half", whole=False)),
        "cache of client1: environments 3.11-half: it is not whole",
    ),
    "a bundle of no version": (
        more("caches", Cached(NODE, BUNDLES, "0123")),
        "bundles 0123: no version in the store needs it",
    ),
    "what was never finished": (
        more("caches", Cached(NODE, UNFINISHED, "files/.new-1")),
        "files/.new-1: nobody comes back to it",
    ),
    "a wish of nobody": (more("caches", Cached(NODE, WISH, "x.json")), "no replica waits for it"),
    "a file of no bundle": (
        more("caches", Cached(NODE, FILE_OF_NO_BUNDLE, "0123")),
        "no bundle has it",
    ),
}


@pytest.mark.parametrize("name", ORPHANS)
def test_each_sort_is_found(name: str) -> None:
    orphan, told = ORPHANS[name]
    lines = found(orphan(in_order()))
    assert any(told in line for line in lines), lines


def test_what_nobody_started_is_found_with_its_children() -> None:
    orphan, _ = ORPHANS["a process that outlived its program"]
    assert len(found(orphan(in_order()))) == 2
