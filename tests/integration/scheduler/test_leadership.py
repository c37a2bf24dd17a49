"""Schedulers that contend for the lease, with faults: never two who act, and soon one again."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import pytest

from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.lease import ConsulLease
from serai.lease import Lease, LeaseSettings
from serai.memory import LeaseBoard, MemoryLease
from serai_scheduler.leadership import lead
from tests.cluster.agents import ConsulAgent, consul
from tests.support.losing_proxy import losing_proxy
from tests.support.wait import auntil

QUICK = LeaseSettings(ttl_s=0.3, margin_s=0.1, lock_delay_s=0.05)
SHORT = LeaseSettings(ttl_s=1.0, margin_s=0.3, lock_delay_s=0.2)
LONG = LeaseSettings(ttl_s=60.0, margin_s=3.0, lock_delay_s=0.2)


class Stage:
    """Who acts; two at once are remembered."""

    def __init__(self) -> None:
        self.acting: set[int] = set()
        self.turns: list[int] = []
        self.both = False
        self.left_at_s = 0.0

    @contextmanager
    def entered(self, number: int) -> Iterator[None]:
        self.both = self.both or bool(self.acting)
        self.acting.add(number)
        self.turns.append(number)
        try:
            yield
        finally:
            self.acting.discard(number)
            self.left_at_s = SystemClock().now()

    async def act(self, number: int) -> None:
        with self.entered(number):
            await asyncio.Event().wait()


@asynccontextmanager
async def contending(
    leases: list[Lease], settings: LeaseSettings, stage: Stage
) -> AsyncIterator[list["asyncio.Task[None]"]]:
    tasks = [
        asyncio.create_task(
            lead(
                lease,
                SystemClock(),
                settings,
                lambda number=number: stage.act(number),  # type: ignore[misc]
                Random(number),
            )
        )
        for number, lease in enumerate(leases)
    ]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_fails_there_is_one_leader_at_most_and_one_in_the_end(seed: int) -> None:
    rng, board, stage = Random(seed), LeaseBoard(), Stage()
    leases: list[Lease] = [MemoryLease(board, SystemClock(), QUICK) for _ in range(3)]
    async with contending(leases, QUICK, stage) as tasks:
        await auntil(lambda: stage.acting)
        for _ in range(6):
            board.away = {lease for lease in leases if rng.random() < 0.5}
            if rng.random() < 0.3:
                tasks[rng.randrange(3)].cancel()
            await SystemClock().sleep(rng.uniform(0.1, 0.6))
            assert len(stage.acting) <= 1
        board.away = set()
        if any(not task.done() for task in tasks):
            await auntil(lambda: stage.acting, 5.0)
    assert not stage.both
    assert not stage.acting, "who is cancelled lets go"


async def test_an_error_of_the_work_gives_the_lease_back_and_passes_through() -> None:
    board, stage = LeaseBoard(), Stage()
    first, second = (MemoryLease(board, SystemClock(), LONG) for _ in range(2))

    async def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await lead(first, SystemClock(), LONG, fail, Random(1))
    async with contending([second], LONG, stage):
        await auntil(lambda: stage.acting, what="it was kept until its time to live was over")


@pytest.mark.engines
async def test_a_leader_stops_while_consul_stands_still_and_goes_on_after(tmp_path: Path) -> None:
    stage = Stage()
    with consul(tmp_path / "own") as agent:
        async with (
            ConsulClient(ConsulSettings(port=agent.port)) as one,
            ConsulClient(ConsulSettings(port=agent.port)) as two,
        ):
            leases: list[Lease] = [
                ConsulLease(client, SystemClock(), "serai/leader", "test", SHORT)
                for client in (one, two)
            ]
            async with contending(leases, SHORT, stage):
                await auntil(lambda: stage.acting)
                began_s = SystemClock().now()
                agent.pause()
                await auntil(lambda: not stage.acting)
                assert stage.left_at_s - began_s <= SHORT.ttl_s
                agent.resume()
                await auntil(lambda: stage.acting, 20.0)
                began_s = SystemClock().now()
                agent.kill()
                await auntil(lambda: not stage.acting)
                assert stage.left_at_s - began_s <= SHORT.ttl_s
                agent.start()
                await auntil(lambda: stage.acting, 20.0)
    assert not stage.both


@pytest.mark.engines
async def test_who_is_cancelled_while_it_takes_the_lease_leaves_it_to_others(
    consul_agent: ConsulAgent,
) -> None:
    """The lock had been taken when its answer was lost; the next leader waited for its end."""
    key, stage = f"{uuid.uuid4()}/leader", Stage()
    async with (
        losing_proxy(consul_agent.port, b"PUT /v1/txn ") as proxy,
        ConsulClient(ConsulSettings(port=proxy.port)) as client,
    ):
        proxy.lose = 1
        lease = ConsulLease(client, SystemClock(), key, key, LeaseSettings())
        async with contending([lease], LeaseSettings(), stage):
            await auntil(lambda: proxy.passed)
        second = ConsulLease(client, SystemClock(), key, "second", LeaseSettings())
        assert await second.acquire(5.0)
        await second.release()
        sessions = json.loads((await client.get("/v1/session/list")).body)
    assert not [one for one in sessions if one["Name"] == key]


@pytest.mark.engines
async def test_a_slow_consul_has_a_leader_that_stays(consul_agent: ConsulAgent) -> None:
    """Each answer takes a fifth of the time to live: three of them, one after another, too long."""
    settings, stage = LeaseSettings(ttl_s=2.0, margin_s=0.5, lock_delay_s=0.1), Stage()
    async with losing_proxy(consul_agent.port, b"PUT /v1/session/renew") as proxy:
        proxy.late_s = 0.4
        async with ConsulClient(ConsulSettings(port=proxy.port)) as client:
            key = f"{uuid.uuid4()}/leader"
            lease = ConsulLease(client, SystemClock(), key, key, settings)
            async with contending([lease], settings, stage):
                await auntil(lambda: stage.acting)
                renewed = proxy.passed
                await auntil(lambda: proxy.passed > renewed + 4, 20.0)
                assert stage.turns == [0] and stage.acting
