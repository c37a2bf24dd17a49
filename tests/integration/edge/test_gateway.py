"""The gateway's promises on the real HAProxy, in both versions."""

import asyncio
import json
from collections import Counter
from contextlib import suppress

import aiohttp
import pytest
from yarl import URL

from serai.errors import Refused
from serai_agent.edge.config import LOG_SOCKET
from serai_agent.edge.logsocket import LogSocket
from serai_agent.edge.outcomes import LINE_STANDS_FOR, Outcomes
from serai_agent.edge.socket import ask
from tests.support.gateways import Edge, route
from tests.support.wait import auntil


async def get(
    client: aiohttp.ClientSession, url: str | URL, **more: object
) -> tuple[int, dict[str, str], str]:
    async with client.get(url, **more) as response:  # type: ignore[arg-type]
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status, headers, await response.text()


async def test_the_prefix_goes_and_the_rest_stays_as_it_was(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    text, large = await one.backend("text"), await one.backend("large")
    await one.gateway.apply(
        [route("text"), route("text-large"), route("deep", endpoint="/a/b/c")],
        [text.server("text"), large.server("text-large"), text.server("deep")],
    )
    cases = {
        "/text": ("text", "/"),
        "/text/": ("text", "/"),
        "/text?q=1&r=a%20b": ("text", "/?q=1&r=a%20b"),
        "/text/x//y/?z": ("text", "/x//y/?z"),
        "/text/%2Fx": ("text", "/%2Fx"),
        "/text-large/x": ("large", "/x"),
        "/a/b/c/d": ("text", "/d"),
    }
    for path, (name, seen) in cases.items():
        status, _, body = await get(client, URL(one.url + path, encoded=True))
        assert status == 200, (path, body)
        told = json.loads(body)
        assert (told["name"], told["path"]) == (name, seen), path
    prefix = json.loads((await get(client, one.url + "/a/b/c/d"))[2])["headers"]
    assert prefix["x-forwarded-prefix"] == "/a/b/c"
    for path in ("/", "/other", "/textx", "/a/b"):
        status, headers, body = await get(client, one.url + path)
        assert status == 404 and headers["content-type"] == "application/json"
        assert json.loads(body)["error"]["code"] == "not_found"


async def test_request_ids_are_taken_over_or_made(one: Edge, client: aiohttp.ClientSession) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    _, headers, body = await get(client, f"{one.url}/iris", headers={"x-request-id": "abc-1"})
    assert headers["x-request-id"] == "abc-1"
    assert json.loads(body)["headers"]["x-request-id"] == "abc-1"
    _, headers, body = await get(client, f"{one.url}/iris", headers={"x-request-id": "a b<c>"})
    assert headers["x-request-id"] != "a b<c>" and len(headers["x-request-id"]) >= 32
    assert json.loads(body)["headers"]["x-request-id"] == headers["x-request-id"]
    told = json.loads(
        (await get(client, f"{one.url}/iris", headers={"x-serai-total-timeout-ms": "1"}))[2]
    )
    assert told["headers"]["x-serai-total-timeout-ms"] == "60000", "a client cannot choose it"


async def test_traffic_splits_by_weight_and_by_pin(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    stable, canary = await one.backend("stable"), await one.backend("canary")
    servers = [stable.server(capacity=50), canary.server(version="v2", capacity=50)]
    split = route(versions=[("v1", 800), ("v2", 200)], queue_limit=1000)
    await one.gateway.apply([split], servers)

    async def names(count: int, **headers: str) -> Counter[str]:
        answers = [await get(client, f"{one.url}/iris", headers=headers) for _ in range(count)]
        return Counter(json.loads(body)["name"] for _, _, body in answers)

    drawn = await names(600)
    assert 70 <= drawn["canary"] <= 180
    assert await names(20, **{"x-serai-version": "v2"}) == {"canary": 20}
    assert await names(20, **{"x-serai-version": "v1"}) == {"stable": 20}
    assert (await names(50, **{"x-serai-version": "no-such"}))["stable"] > 0
    await one.gateway.apply([route(versions=[("v1", 0), ("v2", 1000)], revision=2)], servers)
    assert await names(30) == {"canary": 30}


async def test_a_full_queue_is_429_and_a_waiting_too_long_503(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    tight = route(queue_limit=1, queue_timeout_s=1)
    await one.gateway.apply([tight], [backend.server(capacity=1)])
    running = asyncio.create_task(get(client, f"{one.url}/iris/wait"))
    await auntil(lambda: len(backend.seen) == 1)
    queued = asyncio.create_task(get(client, f"{one.url}/iris"))

    async def is_queued() -> bool:
        reading = await one.gateway.read()
        return any(v.queued == 1 and v.in_flight == 1 for v in reading.versions)

    await auntil(is_queued)
    status, headers, body = await get(client, f"{one.url}/iris")
    assert (status, json.loads(body)["error"]["code"]) == (429, "queue_full")
    assert headers["retry-after"] == "7" and headers["x-request-id"]
    status, headers, body = await queued
    assert status == 503 and "retry-after" in headers
    told = json.loads(body)["error"]
    assert (told["code"], told["request_id"]) == ("queue_timeout", headers["x-request-id"])
    backend.release.set()
    assert (await running)[0] == 200


@pytest.mark.parametrize("change", ["version", "settings"])
async def test_what_waits_is_served_when_its_slot_is_left(
    one: Edge, client: aiohttp.ClientSession, change: str
) -> None:
    """HAProxy refuses a queue at once when the last server of it drains."""
    old, new = await one.backend("old"), await one.backend("new")
    await one.gateway.apply([route()], [old.server(capacity=1)])
    waiting = [asyncio.create_task(get(client, f"{one.url}/iris/wait")) for _ in range(6)]
    await auntil(lambda: len(old.seen) == 1)

    async def all_wait() -> bool:
        return sum(v.queued for v in (await one.gateway.read()).versions) == 5

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


async def test_a_body_that_is_too_large_is_413(one: Edge, client: aiohttp.ClientSession) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    async with client.post(f"{one.url}/iris", data=b"x" * 1001) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "body_too_large"
    async with client.post(f"{one.url}/iris", data=b"x" * 1000) as response:
        assert response.status == 200


async def test_requests_are_held_until_a_replica_is_ready(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    await one.gateway.apply([route()], [])
    held = [asyncio.create_task(get(client, f"{one.url}/iris/{n}")) for n in range(8)]

    async def all_held() -> bool:
        reading = await one.gateway.read()
        return sum(version.held for version in reading.versions) == 8

    await auntil(all_held)
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    assert [status for status, _, _ in await asyncio.gather(*held)] == [200] * 8
    impatient = route("other", hold_limit_s=1)
    await one.gateway.apply([route(), impatient], [backend.server()])
    status, headers, body = await get(client, f"{one.url}/other")
    assert (status, json.loads(body)["error"]["code"]) == (503, "no_replica")
    assert headers["retry-after"] == "7"


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


async def raw(one: Edge, *requests: bytes) -> bytes:
    """Send requests on one connection and return all that comes until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    try:
        for request in requests:
            writer.write(request)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


async def test_a_request_that_ends_without_an_answer_is_counted(one: Edge) -> None:
    """HAProxy closes a connection on which an earlier request was answered, and logs nothing."""
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    await one.gateway.read()
    ask_for = b"GET /iris/%s HTTP/1.1\r\nHost: x\r\n\r\n"
    answers = await raw(one, ask_for % b"x", ask_for % b"cut")
    assert answers.count(b"HTTP/1.1 ") == 1

    async def counted() -> bool:
        versions = (await one.gateway.read()).versions
        mine = next(v for v in versions if v.version == "v1")
        return mine.outcomes == (0, 1, 0, 0, 1, 0) and mine.completions == 2

    await auntil(counted)


async def test_a_body_that_drips_takes_no_replica(one: Edge, client: aiohttp.ClientSession) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route(queue_timeout_s=1)], [backend.server(capacity=1)])
    clients = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(20)]
    for _, writer in clients:  # far more than the replica and its queue take
        writer.write(b"POST /iris/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(b"POST /iris/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabcd")
    assert (await get(client, f"{one.url}/iris"))[0] == 200
    writer.write(b"efghi")
    assert b" 200 " in await asyncio.wait_for(reader.readline(), 10)
    for _, open_writer in [*clients, (reader, writer)]:
        open_writer.close()
        with suppress(OSError):
            await open_writer.wait_closed()


@pytest.mark.parametrize(
    "given",
    ['good,"}bad', "x" * 129, "good, good", "a\tb", "\u00e9"],
)
async def test_a_request_id_is_judged_as_a_whole(one: Edge, given: str) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    head = f"GET /iris HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-request-id: {given}\r\n\r\n"
    answer = await raw(one, head.encode())
    assert b" 200 " in answer and b"\r\nx-request-id: " in answer
    lines = answer.partition(b"\r\n\r\n")[0].decode().splitlines()
    told = next(x for x in lines if x.startswith("x-request-id")).split(": ")[1]
    assert len(told) == 36 and told.count("-") == 4


async def test_a_haproxy_whose_file_was_lost_is_found_again(one: Edge) -> None:
    before = one.gateway.pid()
    for content in ("", None):
        file = one.folder / "haproxy.pid"
        file.unlink() if content is None else file.write_text(content)
        await one.gateway.apply([], [])
        assert one.gateway.pid() == before
        assert file.read_text() == str(before)


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


async def test_outcomes_are_counted_per_version(one: Edge, client: aiohttp.ClientSession) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    for _ in range(7):
        await get(client, f"{one.url}/iris")
    for _ in range(3):
        await get(client, f"{one.url}/iris/fail")

    async def counted() -> bool:
        versions = (await one.gateway.read()).versions
        mine = next((v for v in versions if v.version == "v1"), None)
        return mine is not None and mine.completions == 10

    await auntil(counted)
    mine = next(v for v in (await one.gateway.read()).versions if v.version == "v1")
    assert mine.outcomes == (0, 7, 0, 0, 3, 0)
    assert sum(mine.latency_buckets) == 10
    assert (await one.gateway.read()).log_lines_lost == 0


async def test_above_a_rate_successes_of_the_main_version_share_lines_and_no_others(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    one.gateway.detach()
    again = one.attach(line_each_per_s=3)
    await again.start()
    backend = await one.backend("x")
    servers = [backend.server(), backend.server(version="v2")]
    await again.apply([route(versions=[("v1", 900), ("v2", 100)])], servers)
    again.detach()
    outcomes = Outcomes()
    logs = LogSocket(one.folder / LOG_SOCKET, outcomes)
    logs.open()
    stable, canary = outcomes.sums_of("iris", "v1"), outcomes.sums_of("iris", "v2")

    async def all_came() -> bool:
        return (stable.outcomes[4], canary.outcomes[1]) == (20, 40)

    try:
        for _ in range(20):
            for version in ["v1"] * 15 + ["v2"] * 2:
                await get(client, f"{one.url}/iris", headers={"x-serai-version": version})
            await get(client, f"{one.url}/iris/fail", headers={"x-serai-version": "v1"})
        await auntil(all_came)
    finally:
        logs.close()
    assert abs(stable.outcomes[1] - 300) <= 5 * LINE_STANDS_FOR
    assert stable.completions == sum(stable.outcomes) == sum(stable.buckets)
    assert outcomes.lines < 60 + 2 * 300 // LINE_STANDS_FOR
    assert outcomes.lost == 0


async def test_streams_and_websockets_pass_at_once(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    async with client.get(f"{one.url}/iris/events") as response:
        first = await asyncio.wait_for(response.content.readuntil(b"\n\n"), 2)
        assert first == b"data: first\n\n", "it must not wait for the rest"
        backend.release.set()
        assert await response.content.read() == b"data: second\n\n"
    async with client.ws_connect(f"{one.url}/iris/ws") as socket:
        await socket.send_str("hi")
        assert (await socket.receive_str(timeout=2)) == "echo hi"


@pytest.mark.parametrize("retry", ["never", "connection", "idempotent"])
async def test_a_request_that_was_cut_off_goes_elsewhere_only_when_allowed(
    one: Edge, client: aiohttp.ClientSession, retry: str
) -> None:
    bad, good = await one.backend("bad"), await one.backend("good")
    bad.cuts = True
    servers = [bad.server(number=1), good.server(number=2)]
    await one.gateway.apply([route(retry=retry)], servers)
    statuses = Counter([(await get(client, f"{one.url}/iris"))[0] for _ in range(20)])
    assert bad.seen, "the bad one has to be tried for this to say anything"
    if retry == "idempotent":
        assert statuses == {200: 20}
    else:
        assert statuses[502] > 0 and statuses[200] > 0


async def test_a_replica_that_died_gets_nothing_and_connections_go_elsewhere(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    dying, living = await one.backend("dying"), await one.backend("living")
    servers = [dying.server(number=1), living.server(number=2)]
    await one.gateway.apply([route()], servers)
    await dying.stop()
    answers = [await get(client, f"{one.url}/iris") for _ in range(20)]
    assert [status for status, _, _ in answers] == [200] * 20


async def test_a_client_that_hangs_up_leaves_the_held_demand(one: Edge) -> None:
    await one.gateway.apply([route(hold_limit_s=60, queue_limit=50)], [])
    connections = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(20)]
    for _, writer in connections:
        writer.write(b"GET /iris HTTP/1.1\r\nHost: x\r\n\r\n")

    async def held() -> int:
        return sum(version.held for version in (await one.gateway.read()).versions)

    async def held_is(count: int) -> bool:
        return await held() == count

    await auntil(lambda: held_is(20))
    for _, writer in connections[:15]:
        writer.close()
    await auntil(lambda: held_is(5), within_s=4.0)
    backend = await one.backend("x")
    await one.gateway.apply([route(hold_limit_s=60, queue_limit=50)], [backend.server()])
    for reader, writer in connections[15:]:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200"), "those who stayed are served"
        writer.close()
    assert len(backend.seen) == 5
