"""What a request meets at the gateway, on the real HAProxy in both versions."""

import asyncio
import json
from collections import Counter
from contextlib import suppress

import aiohttp
import pytest
from yarl import URL

from tests.integration.edge.asking import get, raw
from tests.support.gateways import Edge, route
from tests.support.wait import auntil


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
    tight = route(queue_limit=1, queue_timeout_s=5)
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


async def test_a_thousand_requests_are_held_while_the_gateway_answers_others(one: Edge) -> None:
    """Each looks again and again whether it may go on, which must leave time for all else."""
    busy = await one.backend("busy")
    routes = [route(queue_limit=2000, hold_limit_s=120), route("busy")]
    await one.gateway.apply(routes, [busy.server("busy")])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as clients:
        held = [asyncio.create_task(get(clients, f"{one.url}/iris")) for _ in range(1000)]

        async def all_held() -> bool:
            return sum(each.held for each in (await one.gateway.read()).versions) == 1000

        await auntil(all_held)
        for _ in range(20):
            async with asyncio.timeout(2.0):
                assert (await get(clients, f"{one.url}/busy"))[0] == 200
        backend = await one.backend("x")
        await one.gateway.apply(routes, [busy.server("busy"), backend.server(capacity=500)])
        answers = await asyncio.gather(*held)
    told = Counter((status, "" if status == 200 else body) for status, _, body in answers)
    assert told == {(200, ""): 1000}


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


async def test_the_address_that_the_gateway_saw_stands_last_on_one_line(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    for sent, seen in (({}, "127.0.0.1"), ({"x-forwarded-for": "9.9.9.9"}, "9.9.9.9, 127.0.0.1")):
        await get(client, f"{one.url}/iris", headers=sent)
        assert backend.seen[-1].headers.getall("x-forwarded-for") == [seen]
