"""A crowd before an API that has nothing ready: what is held, and what is told beyond its bound."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
from msgspec.structs import replace

from serai.routes import HELD_AT_ONCE, Route
from serai_scheduler.route import route_of
from tests.integration.edge.asking import get
from tests.support.gateways import Edge
from tests.support.gateways import route as small_route
from tests.support.scheduling import deployed, spec
from tests.support.wait import auntil

Answer = tuple[int, dict[str, str], str]
WAKES_IN_S = 60.0


@pytest.fixture
async def crowd() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as clients:
        yield clients


def default_route(version: str) -> Route:
    """Return the route of a spec that sets nothing, to a version of this name."""
    route = route_of(deployed(None, spec())[1].record, epoch=1)
    assert route is not None and route.queue_limit < HELD_AT_ONCE
    (share,) = route.versions
    return replace(route, versions=(replace(share, version=version),))


async def held(one: Edge) -> int:
    return sum(each.held for each in (await one.gateway.read()).versions)


async def all_held(one: Edge, asked: list["asyncio.Task[Answer]"]) -> None:
    """Wait until all are held; what was answered instead is told at once."""

    async def are_held() -> bool:
        early = Counter(task.result()[0] for task in asked if task.done())
        assert not early, f"answered though nothing is ready: {early}"
        return await held(one) == len(asked)

    await auntil(are_held, 60.0)


async def test_a_thousand_at_once_are_held_by_default_and_more_are_told_when_to_come_again(
    one: Edge, crowd: aiohttp.ClientSession
) -> None:
    asleep = default_route("v1")
    await one.gateway.apply([asleep], [])
    asked = [asyncio.create_task(get(crowd, f"{one.url}/iris")) for _ in range(HELD_AT_ONCE)]
    await all_held(one, asked)
    for status, headers, body in [await get(crowd, f"{one.url}/iris") for _ in range(20)]:
        assert (status, json.loads(body)["error"]["code"]) == (429, "hold_full")
        assert int(headers["retry-after"]) == asleep.retry_after_s
    backend = await one.backend("x")
    await one.gateway.apply([asleep], [backend.server()])
    answers = await asyncio.gather(*asked)
    assert Counter(status for status, _, _ in answers) == {200: HELD_AT_ONCE}


async def test_a_held_crowd_is_not_refused_by_the_worker_that_a_reload_brings(
    one: Edge, crowd: aiohttp.ClientSession
) -> None:
    """There all of it arrives at once, and the queue may be that of an API that serves."""
    asleep = default_route("v1")
    await one.gateway.apply([asleep], [])
    asked = [asyncio.create_task(get(crowd, f"{one.url}/iris")) for _ in range(HELD_AT_ONCE)]
    await all_held(one, asked)
    more = [small_route(f"api{n}") for n in range(4)]  # more versions than there are slots
    backend = await one.backend("x")
    await one.gateway.apply([asleep, *more], [backend.server()])
    assert one.gateway.reloads >= 1
    answers = await asyncio.gather(*asked)
    assert Counter(status for status, _, _ in answers) == {200: HELD_AT_ONCE}


async def test_what_was_held_leaves_the_queue_to_those_that_come_later(
    one: Edge, crowd: aiohttp.ClientSession
) -> None:
    """Of a thousand at once some come a moment late: a replica was ready, and all refused."""
    asleep = small_route()
    await one.gateway.apply([asleep], [])
    asked = [asyncio.create_task(get(crowd, f"{one.url}/iris/wait")) for _ in range(40)]
    await all_held(one, asked)
    backend = await one.backend("x")
    await one.gateway.apply([asleep], [backend.server()])
    await auntil(lambda: len(backend.seen) == 2)
    later = [asyncio.create_task(get(crowd, f"{one.url}/iris/wait")) for _ in range(30)]
    done, _ = await asyncio.wait(later, timeout=3.0)
    backend.release.set()
    assert Counter(status for status, _, _ in await asyncio.gather(*asked)) == {200: 40}
    assert {task.result()[0] for task in done} == {429}
    answers = Counter(status for status, _, _ in await asyncio.gather(*later))
    assert answers == {200: 12, 429: 18}, "10 wait, and 2 as many as run"


async def test_the_queue_bounds_what_waits_for_replicas_that_serve(
    one: Edge, crowd: aiohttp.ClientSession
) -> None:
    """Also where the version that was drawn or asked for is not the one that is ready."""
    backend = await one.backend("x")
    split = small_route(versions=[("v1", 500), ("v2", 500)], queue_limit=1)
    await one.gateway.apply([split], [backend.server(capacity=1)])
    asked = [asyncio.create_task(get(crowd, f"{one.url}/iris/wait")) for _ in range(30)]
    done, _ = await asyncio.wait(asked, timeout=3.0)
    assert {task.result()[0] for task in done} == {429}
    backend.release.set()
    answers = await asyncio.gather(*asked)
    assert Counter(status for status, _, _ in answers) == {200: 2, 429: 28}


async def arrivals_are(one: Edge, count: int) -> None:
    """Wait until so many have arrived, over all versions, and see that it stays at that."""

    async def arrived() -> int:
        return sum(each.arrivals for each in (await one.gateway.read()).versions)

    async def as_many() -> bool:
        return await arrived() == count

    await auntil(as_many, what="each request arrives once")
    for _ in range(5):
        assert await arrived() == count


async def test_a_held_request_arrives_when_it_comes_and_only_then(
    one: Edge, crowd: aiohttp.ClientSession
) -> None:
    """Whether it is let go, leaves, or is handed over to the worker that a reload brings."""
    asleep = small_route()
    await one.gateway.apply([asleep], [])
    asked = [asyncio.create_task(get(crowd, f"{one.url}/iris")) for _ in range(8)]
    await all_held(one, asked)
    await arrivals_are(one, 8)
    for leaves in asked[:3]:
        leaves.cancel()
    await asyncio.wait(asked[:3])

    async def five_are_held() -> bool:
        return await held(one) == 5

    await auntil(five_are_held, 20.0)
    await arrivals_are(one, 8)
    more = [small_route(f"api{n}") for n in range(4)]  # more versions than there are slots
    await one.gateway.apply([asleep, *more], [])
    assert one.gateway.reloads >= 1
    await auntil(five_are_held, 20.0)
    await arrivals_are(one, 8)
    backend = await one.backend("x")
    await one.gateway.apply([asleep, *more], [backend.server()])
    assert [answer[0] for answer in await asyncio.gather(*asked[3:])] == [200] * 5
    await arrivals_are(one, 8)
    assert (await get(crowd, f"{one.url}/iris"))[0] == 200
    await arrivals_are(one, 9)
