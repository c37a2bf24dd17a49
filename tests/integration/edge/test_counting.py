"""What the gateway counts, on the real HAProxy in both versions."""

import asyncio
import os
import signal

import aiohttp

from serai_agent.edge.config import LOG_SOCKET
from serai_agent.edge.logsocket import LogSocket
from serai_agent.edge.outcomes import LINE_STANDS_FOR, Outcomes
from tests.integration.edge.asking import get, raw
from tests.support.gateways import Edge, route
from tests.support.wait import auntil


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


async def test_what_died_with_haproxy_hides_nothing_that_comes_to_the_next_one(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])

    async def have_arrived(count: int) -> bool:
        versions = (await one.gateway.read()).versions
        return sum(v.arrivals for v in versions) == count

    waiting = [asyncio.create_task(get(client, f"{one.url}/iris/wait")) for _ in range(2)]
    await auntil(lambda: have_arrived(2))
    pid = one.gateway.pid()
    assert pid is not None
    os.killpg(pid, signal.SIGKILL)
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(end, aiohttp.ClientError) for end in ends)
    await auntil(lambda: one.gateway.pid() is None)
    await one.gateway.apply([route()], [backend.server()])
    await get(client, f"{one.url}/iris")
    await auntil(lambda: have_arrived(3))


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
    await auntil(lambda: held_is(5))  # other tests beside it may have thousands of connections
    backend = await one.backend("x")
    await one.gateway.apply([route(hold_limit_s=60, queue_limit=50)], [backend.server()])
    for reader, writer in connections[15:]:
        assert (await reader.readline()).startswith(b"HTTP/1.1 200"), "those who stayed are served"
        writer.close()
    assert len(backend.seen) == 5


async def test_what_reached_no_replica_is_refused_and_not_completed(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    """By it the time of service is told, which none of these had."""
    backend = await one.backend("x")
    limits = route(queue_limit=1, queue_timeout_s=5)
    await one.gateway.apply([limits], [backend.server(capacity=1)])
    ask = b"GET /iris/wait HTTP/1.1\r\nHost: x\r\n\r\n"
    runs, leaves = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(2)]

    async def now(running: int, queued: int) -> bool:
        told = (await one.gateway.read()).versions
        there = sum(each.in_flight for each in told), sum(each.queued for each in told)
        return there == (running, queued)

    runs[1].write(ask)
    await auntil(lambda: now(1, 0))
    leaves[1].write(ask)
    await auntil(lambda: now(1, 1))
    assert (await get(client, f"{one.url}/iris"))[0] == 429
    leaves[1].close()
    await auntil(lambda: now(1, 0))
    assert (await get(client, f"{one.url}/iris"))[0] == 503, "its time in the queue is over"

    async def ended(refused: int, completed: int) -> bool:
        told = (await one.gateway.read()).versions
        counts = sum(each.refused for each in told), sum(each.completions for each in told)
        return counts == (refused, completed)

    await auntil(lambda: ended(3, 0))
    backend.release.set()
    await auntil(lambda: ended(3, 1))
    runs[1].close()
