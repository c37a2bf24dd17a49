"""A rolling restart of two gateways in front of one replica, under load."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
import pytest

from serai_agent.program.drain import LAST
from tests.cluster.agents import consul
from tests.cluster.serai_agents import Orders, SeraiAgent, agents
from tests.integration.edge.asking import get
from tests.integration.program.test_gateway import all_pass, serving
from tests.support.dns import ports
from tests.support.gateways import Backend
from tests.support.wait import auntil

pytestmark = pytest.mark.engines
NAME = "serai-gateway.service.consul"
REQUESTS_PER_S = 100
LOOK_PERIOD_S = 0.1


@dataclass
class Load:
    """Clients that find the gateways by DNS, as often as their resolver lets them."""

    dns: int
    answered: dict[int, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    _known: list[int] = field(default_factory=list)

    async def send(self, session: aiohttp.ClientSession, rng: Random) -> None:
        port = rng.choice(self._known)
        try:
            status, _, body = await get(session, f"http://127.0.0.1:{port}/iris")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.lost.append(f"{port}: {error!r}")
            return
        if status != 200:
            self.lost.append(f"{port}: {status} {body!r}")
        self.answered[port] = self.answered.get(port, 0) + 1

    async def look(self) -> None:
        while True:
            self._known = await asyncio.to_thread(ports, self.dns, NAME) or self._known
            await asyncio.sleep(LOOK_PERIOD_S)  # noqa: TID251  # a real resolver's time

    @asynccontextmanager
    async def steady(self) -> AsyncIterator[None]:
        """Send at a constant rate, each request on a connection of its own."""
        self._known = await asyncio.to_thread(ports, self.dns, NAME)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            looking = asyncio.create_task(self.look())
            sending = asyncio.create_task(self._all(session, group))
            try:
                yield
            finally:
                looking.cancel()
                sending.cancel()

    async def _all(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        rng = Random(4)
        while True:
            group.create_task(self.send(session, rng))
            await asyncio.sleep(1 / REQUESTS_PER_S)  # noqa: TID251  # real traffic


async def drained(agent: SeraiAgent) -> None:
    """Drain a gateway as an operator does; it has ended with its HAProxy then."""
    process = agent.drain()
    assert await asyncio.to_thread(process.wait, 40) == 0
    assert LAST.encode() not in process.communicate()[1], "the other one is there"
    assert agent.process is not None and await asyncio.to_thread(agent.process.wait, 5) == 0
    assert agent.haproxy() is None


async def test_a_rolling_restart_loses_nothing_that_the_other_can_take(
    tmp_path: Path, backend: Backend
) -> None:
    with consul(tmp_path / "consul") as there, agents(tmp_path, there, "a", "b") as both:
        async with Orders(there.port) as orders, aiohttp.ClientSession() as session:
            await serving(orders, backend, both, capacity=8)
            load = Load(there.dns)
            async with load.steady():
                for agent in both:
                    long = asyncio.create_task(get(session, f"{agent.url}/iris/wait"))
                    await auntil(lambda: any("wait" in one.path for one in backend.seen))
                    leaving = asyncio.create_task(drained(agent))
                    await auntil(lambda: _only_others(there.dns, agent))  # noqa: B023
                    assert agent.haproxy() is not None, "a request is in flight"
                    assert (await get(session, f"{agent.url}/iris"))[0] == 200
                    backend.release.set()
                    assert (await long)[0] == 200
                    await leaving
                    assert agent.name not in await orders.checks()
                    backend.release.clear()
                    backend.seen.clear()
                    await asyncio.to_thread(agent.start)
                    await auntil(lambda: all_pass(orders, both), 20.0)
                await auntil(lambda: load.answered.get(both[1].gateway, 0) > 100)
    assert load.lost == []
    assert min(load.answered.values()) > 100


async def _only_others(dns: int, agent: SeraiAgent) -> bool:
    found = await asyncio.to_thread(ports, dns, NAME)
    return bool(found) and agent.gateway not in found


async def test_a_drain_that_is_broken_off_leaves_haproxy_serving(
    tmp_path: Path, backend: Backend
) -> None:
    with consul(tmp_path / "consul") as there, agents(tmp_path, there, "a") as (one,):
        async with Orders(there.port) as orders, aiohttp.ClientSession() as session:
            await serving(orders, backend, [one])
            long = asyncio.create_task(get(session, f"{one.url}/iris/wait"))
            await auntil(lambda: backend.seen)
            process = one.drain()
            await auntil(lambda: _red(session, one))
            assert one.process is not None
            one.process.terminate()
            assert await asyncio.to_thread(process.wait, 20) == 0
            assert LAST.encode() in process.communicate()[1]
            assert "the last gateway drains" in one.log()
            assert one.haproxy() is not None
            backend.release.set()
            assert (await long)[0] == 200
            # Without an agent the same command does it by itself.
            process = one.drain()
            assert await asyncio.to_thread(process.wait, 40) == 0
            process.communicate()
            assert one.haproxy() is None


async def _red(session: aiohttp.ClientSession, agent: SeraiAgent) -> bool:
    return (await get(session, f"{agent.url}/_serai/healthz"))[0] == 503
