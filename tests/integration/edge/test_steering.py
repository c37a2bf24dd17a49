"""How a running HAProxy is steered and repaired, in both versions."""

import asyncio
import json
import socket
from collections import Counter

import aiohttp
import pytest

from serai.errors import Refused
from serai_agent.edge.socket import ask
from tests.integration.edge.asking import get
from tests.support.gateways import Edge, route
from tests.support.wait import auntil


@pytest.mark.parametrize("change", ["version", "settings"])
async def test_what_waits_is_served_when_its_slot_is_left(
    one: Edge, client: aiohttp.ClientSession, change: str
) -> None:
    """HAProxy refuses a queue at once when the last server of it drains."""
    old, new = await one.backend("old"), await one.backend("new")
    await one.gateway.apply([route()], [old.server(capacity=1)])
    waiting = [asyncio.create_task(get(client, f"{one.url}/iris/wait")) for _ in range(6)]

    async def all_wait() -> bool:
        # HAProxy's threads may each let one in at the same instant.
        versions = (await one.gateway.read()).versions
        waits = sum(v.queued for v in versions)
        return waits >= 3 and waits + len(old.seen) == 6

    await auntil(all_wait)
    if change == "version":
        orders = [route(versions=[("v2", 1000)], revision=2)], [new.server(version="v2")]
        orders[1].append(old.server(capacity=1))
    else:
        orders = [route(queue_timeout_s=5, revision=2)], [old.server(capacity=1)]
    await one.gateway.apply(*orders)
    _, _, body = await get(client, f"{one.url}/iris")
    assert json.loads(body)["name"] == ("new" if change == "version" else "old")
    old.release.set()
    assert {status for status, _, _ in await asyncio.gather(*waiting)} == {200}

    async def left() -> bool:
        await one.gateway.apply(*orders)
        return len((await one.gateway.read()).servers) == 1

    await auntil(left)
    assert one.gateway.repairs == 0


async def test_held_and_running_requests_survive_a_reload(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("busy")
    routes = [route("busy"), route("asleep")]
    await one.gateway.apply(routes, [backend.server("busy")])
    running = asyncio.create_task(get(client, f"{one.url}/busy/wait"))
    held = [asyncio.create_task(get(client, f"{one.url}/asleep")) for _ in range(5)]
    await auntil(lambda: len(backend.seen) == 1)
    more = [route(f"api{n}") for n in range(4)]  # more versions than there are slots
    await one.gateway.apply([*routes, *more], [backend.server("busy")])
    reading = await one.gateway.read()
    assert reading.reloads >= 1
    in_flight = {server.server: server.in_flight for server in reading.servers}
    assert in_flight["busy.v1.1.0"] == 1, "what runs in the old worker still counts"
    waking = await one.backend("awake")
    await one.gateway.apply([*routes, *more], [backend.server("busy"), waking.server("asleep")])
    answers = await asyncio.gather(*held)
    assert [status for status, _, _ in answers] == [200] * 5
    for _, _, body in answers:
        seen = json.loads(body)["headers"]
        assert seen["x-forwarded-for"] == "127.0.0.1", "the client's address, and only once"
        assert "x-serai-held-ms" not in seen
    backend.release.set()
    assert (await running)[0] == 200

    async def counted_once() -> bool:
        versions = (await one.gateway.read()).versions
        return sum(v.completions for v in versions if v.api == "asleep") == 5

    await auntil(counted_once, what="a request that was handed over is one request")


async def test_a_reload_by_somebody_else_has_all_that_was_ordered(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    """The files were those of the start: every API was unknown until the next pass."""
    backend = await one.backend("ready")
    routes = [route("ready"), route("asleep")]
    await one.gateway.apply(routes, [backend.server("ready", capacity=3)])
    held = [asyncio.create_task(get(client, f"{one.url}/asleep")) for _ in range(3)]

    async def holds() -> bool:
        return sum(v.held for v in (await one.gateway.read()).versions) == 3

    await auntil(holds)
    await ask(one.folder / "master.sock", "reload")
    assert (await get(client, f"{one.url}/ready"))[0] == 200
    waking = await one.backend("awake")
    both = [backend.server("ready", capacity=3), waking.server("asleep")]
    await one.gateway.apply(routes, both)
    assert [status for status, _, _ in await asyncio.gather(*held)] == [200] * 3
    assert one.gateway.repairs == 0, "what was reloaded is what was ordered"


async def test_a_draining_replica_gets_nothing_new_and_goes_when_idle(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    old, new = await one.backend("old"), await one.backend("new")
    servers = [old.server(number=1), new.server(number=2)]
    await one.gateway.apply([route()], servers)
    running = asyncio.create_task(get(client, f"{one.url}/iris/wait"))
    await auntil(lambda: old.seen or new.seen)
    busy = old if old.seen else new
    leaving = "iris.v1.1" if busy is old else "iris.v1.2"
    draining = route(draining=(leaving,), revision=2)
    await one.gateway.apply([draining], servers)
    for _ in range(10):
        assert json.loads((await get(client, f"{one.url}/iris"))[2])["name"] != busy.name
    reading = await one.gateway.read()
    states = {server.server: (server.state, server.in_flight) for server in reading.servers}
    assert states[f"{leaving}.0"] == ("draining", 1)
    assert reading.revisions == {"iris": 2}
    busy.release.set()
    assert (await running)[0] == 200
    stays = [s for s in servers if s.replica != leaving]
    await one.gateway.apply([route(revision=3)], stays)

    async def gone() -> bool:
        await one.gateway.apply([route(revision=3)], stays)
        return [s.server for s in (await one.gateway.read()).servers] == [stays[0].id]

    await auntil(gone)


async def test_no_request_fails_while_servers_come_and_go(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backends = [await one.backend(str(n)) for n in range(4)]
    servers = [b.server(number=n, capacity=8) for n, b in enumerate(backends)]
    await one.gateway.apply([route(queue_limit=1000)], servers[:2])
    statuses: Counter[int] = Counter()
    stop = asyncio.Event()

    async def hammer() -> None:
        while not stop.is_set():
            statuses[(await get(client, f"{one.url}/iris"))[0]] += 1

    tasks = [asyncio.create_task(hammer()) for _ in range(8)]
    for turn in range(12):
        keep = [servers[(turn + n) % 4] for n in range(2)]
        coming = [*keep, servers[(turn + 2) % 4]]
        await one.gateway.apply([route(queue_limit=1000, revision=3 * turn + 2)], coming)
        leaving = route(queue_limit=1000, draining=(keep[0].replica,), revision=3 * turn + 3)
        await one.gateway.apply([leaving], coming)

        async def idle(name: str = keep[0].id) -> bool:
            reading = await one.gateway.read()
            return all(s.in_flight == 0 for s in reading.servers if s.server == name)

        await auntil(idle)
        await one.gateway.apply([route(queue_limit=1000, revision=3 * turn + 4)], coming[1:])
    stop.set()
    await asyncio.gather(*tasks)
    assert set(statuses) == {200} and statuses[200] > 200
    assert (await one.gateway.read()).reloads == 0


async def test_whatever_was_changed_by_hand_is_repaired(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    servers = [backend.server()]
    await one.gateway.apply([route()], servers)
    stats, route_map = one.folder / "stats.sock", one.folder / "route.map"
    slot = (await ask(stats, "show servers state")).split("\n")[2].split()[1]
    damages = (
        [f"set server {slot}/iris.v1.1.0 state maint"],
        [f"set server {slot}/iris.v1.1.0 state maint", f"del server {slot}/iris.v1.1.0"],
        [f"del map {route_map} /iris/"],
        [f"set map {route_map} /iris/ nonsense"],
        [f"add map {route_map} /ghost/ ghost|1"],
        [f"set maxconn server {slot}/iris.v1.1.0 77"],
        [f"set server {slot}/iris.v1.1.0 check-port 9"],
        [f"set server {slot}/iris.v1.1.0 check-addr 127.0.0.9 port 9"],
        ["disable frontend public"],
        ["set maxconn frontend public 0"],
        ["set maxconn global 1", "set rate-limit connections global 1"],
        ["shutdown frontend public"],
    )
    for damage in damages:
        for command in damage:
            await ask(stats, command)
        await one.gateway.apply([route()], servers)
        assert (await get(client, f"{one.url}/iris"))[0] == 200, damage
        assert (await get(client, f"{one.url}/ghost"))[0] == 404, damage
    state = await ask(stats, "show servers state")
    assert " 77 " not in state and " 9 " not in state and "127.0.0.9" not in state
    assert one.gateway.reloads == 1, "only what was shut down needs one"


async def test_a_haproxy_whose_file_was_lost_is_found_again(one: Edge) -> None:
    before = one.gateway.pid()
    for content in ("", None):
        file = one.folder / "haproxy.pid"
        file.unlink() if content is None else file.write_text(content)
        await one.gateway.apply([], [])
        assert one.gateway.pid() == before
        assert file.read_text() == str(before)


@pytest.mark.parametrize("gone", [("stats.sock",), ("stats.sock", "master.sock", "route.map")])
async def test_a_haproxy_whose_sockets_were_removed_is_heard_again(
    one: Edge, client: aiohttp.ClientSession, gone: tuple[str, ...]
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    before = one.gateway.pid()
    waiting = asyncio.create_task(get(client, f"{one.url}/iris/wait"))
    await auntil(lambda: bool(backend.seen), what="a request in flight")
    for orders in ([route(), route("text")], [route()]):
        for name in gone:
            (one.folder / name).unlink()
            with socket.socket(socket.AF_UNIX) as copy:  # nobody listens at it any more
                copy.bind(str(one.folder / name)) if orders[1:] else None
        await one.gateway.apply(orders, [backend.server()])
    assert (await get(client, f"{one.url}/iris"))[0] == 200
    assert one.gateway.pid() == before
    backend.release.set()
    assert (await waiting)[0] == 200, "what was in flight is answered"
    assert (await one.gateway.read()).ready


async def test_haproxy_outlives_its_controller_and_is_attached_to_again(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    before = one.gateway.pid()
    one.gateway.detach()
    assert (await get(client, f"{one.url}/iris"))[0] == 200
    again = one.attach()
    await again.start()
    assert again.pid() == before
    await get(client, f"{one.url}/iris")

    async def counted() -> bool:
        return any(v.outcomes[1] == 1 for v in (await again.read()).versions)

    await auntil(counted, what="the log socket was bound anew, so lines must come again")


async def test_a_gateway_starts_from_what_was_last_good(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    await one.gateway.stop(1.0)
    again = one.attach()
    await again.start()
    assert (await get(client, f"{one.url}/iris"))[0] == 200


async def test_orders_of_an_epoch_before_are_refused(one: Edge) -> None:
    await one.gateway.apply([route(epoch=5)], [])
    with pytest.raises(Refused) as caught:
        await one.gateway.apply([route(epoch=4)], [])
    assert caught.value.code == "fenced"
