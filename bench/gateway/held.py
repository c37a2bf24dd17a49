"""Requests at once to an API without a replica: what holding them costs, and how they go on."""

import asyncio
import time
from collections.abc import Sequence
from statistics import median

import aiohttp
import psutil

from bench.gateway.world import World, route, server
from bench.report import Figure
from serai.model import Server
from serai.routes import Route
from tests.support.wait import auntil

COUNT = 1000
HELD_S = 8.0
CAPACITY = 512
API = "asleep"
HELD_LIMIT_S = 60.0


def measure(
    one: World, routes: Sequence[Route], servers: Sequence[Server], port: int
) -> dict[str, Figure]:
    """Hold requests for a while, then give them a replica that answers at once."""
    one.order([*routes, route(API)], list(servers))
    return asyncio.run(
        _measure(one, [*routes, route(API)], [*servers, server(API, port, CAPACITY)])
    )


async def _measure(
    one: World, routes: Sequence[Route], servers: Sequence[Server]
) -> dict[str, Figure]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        asking = [asyncio.create_task(_ask(session, one.url(f"/{API}"))) for _ in range(COUNT)]
        await auntil(lambda: _all_held(one), HELD_LIMIT_S)
        began_s, before_s, took_ms = time.monotonic(), _cpu_s(one), []
        while time.monotonic() - began_s < HELD_S:
            asked_s = time.monotonic()
            await asyncio.to_thread(one.read)
            took_ms.append((time.monotonic() - asked_s) * 1000)
            await asyncio.sleep(0.2)
        share = (_cpu_s(one) - before_s) / (time.monotonic() - began_s)
        ready_s = time.monotonic()
        await asyncio.to_thread(one.order, list(routes), list(servers))
        answers = await asyncio.gather(*asking)
    return {
        "held_core_share": share,
        "held_read_p50_ms": median(took_ms),
        "held_failed": sum(status != 200 for status, _ in answers),
        "held_all_answered_s": max(at_s for _, at_s in answers) - ready_s,
    }


async def _ask(session: aiohttp.ClientSession, url: str) -> tuple[int, float]:
    async with session.get(url) as response:
        await response.read()
        return response.status, time.monotonic()


async def _all_held(one: World) -> bool:
    found = await asyncio.to_thread(one.read)
    return sum(version.held for version in found.versions if version.api == API) == COUNT


def _cpu_s(one: World) -> float:
    pid = one.gateway.pid()
    assert pid is not None
    master = psutil.Process(pid)
    times = [each.cpu_times() for each in (master, *master.children(recursive=True))]
    return sum(each.user + each.system for each in times)
