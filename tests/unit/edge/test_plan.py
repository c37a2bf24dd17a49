"""The plan reaches what is wanted from whatever HAProxy has, and then rests."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from serai.model import Server
from serai.routes import Route
from serai_agent.edge.answers import SeenServer
from serai_agent.edge.layout import CLASSES, parse_entry, slot_class, slot_name
from serai_agent.edge.plan import Plan, owners, plan, target_of, version_of
from tests.unit.edge.haproxy_model import MAP, ModelHaproxy
from tests.unit.edge.values import route, server

SLOTS = [slot_name(kind, n) for kind in CLASSES for n in range(3)]


def settle(
    model: ModelHaproxy, routes: list[Route], servers: list[Server], passes: int = 12
) -> list[Plan]:
    """Plan and carry out until nothing is left; requests in flight end between two passes."""
    plans = []
    for _ in range(passes):
        plans.append(plan(routes, servers, model.seen(), MAP))
        if plans[-1].target.growth:
            grow(model, plans[-1].target.growth)
            continue
        if not plans[-1].commands:
            return plans
        for command in plans[-1].commands:
            model.run(command.text)
        model.finish_requests()
    raise AssertionError(f"does not come to rest: {[c.text for c in plans[-1].commands]}")


def grow(model: ModelHaproxy, labels: Mapping[str, int]) -> None:
    for kind in CLASSES:
        if kind.label in labels:
            have = sum(name.startswith(f"slot_{kind.label}_") for name in model.slots)
            model.slots += [slot_name(kind, have + n) for n in range(4)]


def check(model: ModelHaproxy, routes: list[Route], servers: list[Server]) -> None:
    """Hold what HAProxy ends up with against what was wanted."""
    assert set(model.routes) == {f"{r.endpoint}/" for r in routes}
    for one in routes:
        entry = parse_entry(model.routes[f"{one.endpoint}/"])
        assert entry is not None and entry.api == one.api
        for share in one.versions:
            slot = next(
                s for s, owner in owners(model.seen()).items() if owner == (one.api, share.version)
            )
            mine = {name: s for (at, name), s in model.servers.items() if at == slot}
            wanted = {s.id: s for s in servers if (s.api, s.version) == (one.api, share.version)}
            serving = {n: s for n, s in wanted.items() if s.replica not in one.draining}
            for name, want in serving.items():
                have = mine[name]
                assert not have.drain and not have.maintenance and have.watched and have.weight == 1
                assert (have.maxconn, have.address) == (want.capacity, f"{want.host}:{want.port}")
            for name, left in mine.items():
                assert name in serving or (name in wanted and (left.drain or left.maintenance))
    by_slot: dict[str, set[tuple[str, str]]] = {}
    for (slot, name), _ in model.servers.items():
        by_slot.setdefault(slot, set()).add(version_of(name))
    assert all(len(versions) == 1 for versions in by_slot.values()), "one version per slot"


VERSIONS = st.sampled_from(["v1", "v2"])
APIS = st.sampled_from(["iris", "text", "ocr"])


@st.composite
def servers_there(draw: st.DrawFn) -> SeenServer:
    api, version = draw(APIS), draw(VERSIONS)
    return SeenServer(
        slot=draw(st.sampled_from(SLOTS)),
        name=server(api, version, draw(st.integers(1, 3))).id,
        id=draw(st.integers(1, 5)),
        address=f"10.0.0.1:{draw(st.sampled_from([9000, 9001]))}",
        maxconn=draw(st.integers(1, 3)),
        in_flight=draw(st.integers(0, 2)),
        up=draw(st.booleans()),
        drain=draw(st.booleans()),
        maintenance=draw(st.booleans()),
        weight=draw(st.sampled_from([0, 1, 1, 50])),
        watched=draw(st.booleans()),
    )


@st.composite
def models(draw: st.DrawFn) -> ModelHaproxy:
    model = ModelHaproxy(list(SLOTS))
    for there in draw(st.lists(servers_there(), max_size=8)):
        # As HAProxy would have it: one version per slot, names and ids once in a slot.
        others = [s for (slot, _), s in model.servers.items() if slot == there.slot]
        if any(version_of(s.name) != version_of(there.name) or s.id == there.id for s in others):
            continue
        if not any(s.name == there.name for s in others):
            there = replace(there, drain=there.drain or there.weight == 0)
            model.servers[there.slot, there.name] = there
    values = st.sampled_from(
        ["nonsense", "", "a|b", target("iris"), target("text"), target("ghost")]
    )
    keys = st.sampled_from(["/iris/", "/text/", "/ocr/", "/ghost/"])
    model.routes = draw(st.dictionaries(keys, values, max_size=4))
    return model


def target(api: str) -> str:
    """Return an entry as some earlier plan would have written it."""
    seen = ModelHaproxy(list(SLOTS)).seen()
    return target_of([route(api)], [server(api)], seen).entries[f"/{api}/"]


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[Route], list[Server]]:
    routes = []
    for api in draw(st.lists(APIS, unique=True)):
        share = draw(st.sampled_from([0, 200, 1000]))
        both = [("v1", 1000 - share), ("v2", share)]
        routes.append(
            route(
                api,
                draw(st.sampled_from([both, both[:1] if share == 0 else both, []])),
                queue_timeout_s=draw(st.sampled_from([5, 30])),
                retry=draw(st.sampled_from(["never", "connection", "idempotent"])),
                draining=draw(st.sampled_from([(), (f"{api}.v1.1",)])),
            )
        )
    picked = draw(st.lists(st.tuples(APIS, VERSIONS, st.integers(1, 3)), unique=True, max_size=8))
    return routes, [server(*one, capacity=draw(st.integers(1, 3))) for one in picked]


@settings(max_examples=300, deadline=None)
@given(models(), orders())
def test_from_any_state_it_reaches_what_is_wanted_and_rests(
    model: ModelHaproxy, wanted: tuple[list[Route], list[Server]]
) -> None:
    settle(model, *wanted)
    check(model, *wanted)


@settings(max_examples=100, deadline=None)
@given(orders(), orders())
def test_a_change_of_orders_never_asks_for_what_haproxy_refuses(
    first: tuple[list[Route], list[Server]], second: tuple[list[Route], list[Server]]
) -> None:
    model = ModelHaproxy(list(SLOTS))
    settle(model, *first)
    settle(model, *second)
    check(model, *second)
    assert not model.refused


def settled() -> ModelHaproxy:
    model = ModelHaproxy(list(SLOTS))
    settle(model, [route()], [server()])
    return model


def texts(model: ModelHaproxy, routes: list[Route], servers: list[Server]) -> list[str]:
    return [command.text for command in plan(routes, servers, model.seen(), MAP).commands]


def test_servers_come_before_the_map_and_leave_after_it() -> None:
    model = settled()
    kinds = [
        text.split()[0] + " " + text.split()[1]
        for text in texts(model, [route(versions=[("v2", 1000)])], [server(version="v2")])
    ]
    assert kinds == ["add server", "enable health", "enable server", "set map"]


def test_a_change_of_weight_is_one_map_entry() -> None:
    model = ModelHaproxy(list(SLOTS))
    servers = [server(), server(version="v2")]
    settle(model, [route(versions=[("v1", 1000), ("v2", 0)])], servers)
    found = texts(model, [route(versions=[("v1", 990), ("v2", 10)])], servers)
    assert [text.split()[:2] for text in found] == [["set", "map"]]


def test_the_limit_counts_what_the_ready_servers_take_and_the_queue() -> None:
    model = ModelHaproxy(list(SLOTS))
    servers = [server(number=1, capacity=4), server(number=2, capacity=3), server(version="v9")]
    settle(model, [route(draining=("iris.v1.2",))], servers)
    entry = parse_entry(model.routes["/iris/"])
    assert entry is not None and entry.limit == 4 + 10


def test_too_few_slots_are_told_and_the_rest_goes_on() -> None:
    kind = slot_class(route())
    model = ModelHaproxy([slot_name(kind, 0)])
    steps = plan([route(), route("text")], [server(), server("text")], model.seen(), MAP)
    assert steps.target.growth == {kind.label: 1}
    assert any(command.text.startswith("add server") for command in steps.commands)


def test_a_server_with_requests_is_not_removed_before_they_end() -> None:
    model = settled()
    place = next(iter(model.servers))
    model.servers[place] = replace(model.servers[place], in_flight=1)
    first = plan([route()], [], model.seen(), MAP)
    for command in first.commands:
        model.run(command.text)
    second = plan([route()], [], model.seen(), MAP)
    assert not second.commands, "it waits"
    model.finish_requests()
    third = plan([route()], [], model.seen(), MAP)
    assert [c.text.split()[0] for c in third.commands] == ["set", "del"]
    assert all(command.leaving for command in third.commands) and not third.unsettled


def test_a_slot_that_is_left_drains_when_nothing_can_enter_it_nor_waits_in_it() -> None:
    model = settled()
    (slot, name) = next(iter(model.servers))
    orders = [route(versions=[("v2", 1000)])], [server(version="v2")]
    drain = f"set server {slot}/{name} state drain"

    def step() -> list[str]:
        commands = plan(*orders, model.seen(), MAP).commands
        for command in commands:
            model.run(command.text)
        return [command.text for command in commands]

    assert drain not in step(), "the map still named it"
    model.servers[slot, name] = replace(model.servers[slot, name], queued=1)
    assert step() == []
    model.servers[slot, name] = replace(model.servers[slot, name], queued=0)
    assert step() == [drain]


def test_a_replica_in_two_slots_gets_no_more_than_it_takes() -> None:
    model = ModelHaproxy(list(SLOTS))
    mine = [server(capacity=40)]
    settle(model, [route()], mine)
    (old, name) = next(iter(model.servers))
    orders = [route(queue_timeout_s=5)], mine
    new = next(slot for slot in SLOTS if slot.startswith("slot_005_"))
    rooms = []
    for in_flight, queued in ((40, 9), (40, 9), (20, 3), (20, 0), (0, 0), (0, 0), (0, 0)):
        if (old, name) in model.servers:
            there = model.servers[old, name]
            model.servers[old, name] = replace(there, in_flight=in_flight, queued=queued)
        steps = plan(*orders, model.seen(), MAP)
        for command in steps.commands:
            model.run(command.text)
        left = model.servers.get((old, name))
        rooms.append((left.maxconn if left else 0, model.servers[new, name].maxconn))
    assert not model.refused
    assert rooms == [(20, 1), (20, 1), (20, 20), (20, 20), (0, 40), (0, 40), (0, 40)]


def test_a_replica_that_has_to_go_drains_whatever_waits() -> None:
    model = settled()
    place = next(iter(model.servers))
    model.servers[place] = replace(model.servers[place], queued=1)
    orders = [route(versions=[("v2", 1000)], draining=("iris.v1.1",))], [server(version="v2")]
    commands = [command.text for command in plan(*orders, model.seen(), MAP).commands]
    assert f"set server {place[0]}/{place[1]} state drain" in commands


def test_what_cannot_be_told_to_haproxy_is_left_out_with_a_reason() -> None:
    model = ModelHaproxy(list(SLOTS))
    strange = [
        msgspec.structs.replace(server(), id="iris.v1.1;del map x"),
        msgspec.structs.replace(server(), id="other.v1.1"),
        msgspec.structs.replace(server(), host="db.example"),
        msgspec.structs.replace(server(), port=0),
    ]
    steps = plan([route(), route("a b"), route("x", endpoint="/x y")], strange, model.seen(), MAP)
    assert len(steps.target.problems) == 6
    assert [command.text.split()[:2] for command in steps.commands] == [["add", "map"]]


def test_the_version_with_the_larger_share_is_the_main_one() -> None:
    cases = {
        (("a", 0), ("b", 500), ("c", 500)): ("b", "c", 500),
        (("a", 1000), ("b", 0)): ("a", "b", 0),
        (("a", 300), ("b", 700)): ("b", "a", 300),
        (("a", 1000),): ("a", "", 0),
        (): ("", "", 0),
    }
    for versions, expected in cases.items():
        seen = ModelHaproxy(list(SLOTS)).seen()
        text = target_of([route(versions=versions)], [], seen).entries["/iris/"]
        entry = parse_entry(text)
        assert entry is not None and entry.text() == text
        assert (entry.stable_version, entry.canary_version, entry.weight) == expected
