"""One suite for every lease: two who want it, and never two who may act."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable

import pytest

from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.lease import ConsulLease
from serai.errors import Refused
from serai.lease import Lease, LeaseSettings
from serai.memory import LeaseBoard, MemoryLease
from tests.cluster.agents import ConsulAgent

SHORT = LeaseSettings(ttl_s=1.0, margin_s=0.3, lock_delay_s=0.2)
Make = Callable[[], Lease]


@pytest.fixture(params=["memory", pytest.param("consul", marks=pytest.mark.engines)])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    if request.param == "memory":
        board = LeaseBoard()
        yield lambda: MemoryLease(board, SystemClock(), SHORT)
        return
    agent: ConsulAgent = request.getfixturevalue("consul_agent")
    client = ConsulClient(ConsulSettings(port=agent.port))
    key = f"{uuid.uuid4()}/leader"
    yield lambda: ConsulLease(client, SystemClock(), key, "test", SHORT)
    await client.close()


async def test_one_has_it_and_another_waits_in_vain(make: Make) -> None:
    first, second = make(), make()
    assert not first.held
    assert await first.acquire(0)
    assert first.held
    assert not await second.acquire(0.1)
    assert not second.held and first.held
    assert await first.acquire(0), "who has it already has it"


async def test_given_back_it_goes_to_the_one_who_waits(make: Make) -> None:
    first, second = make(), make()
    assert await first.acquire(0)
    waiting = asyncio.create_task(second.acquire(10))
    await first.renew()
    await first.release()
    assert not first.held
    assert await asyncio.wait_for(waiting, SHORT.ttl_s)
    assert second.held
    await first.release()
    assert second.held, "only its holder can give it back"


async def test_renewed_it_lasts_longer_than_its_time_to_live(make: Make) -> None:
    first, second = make(), make()
    clock = SystemClock()
    assert await first.acquire(0)
    waiting = asyncio.create_task(second.acquire(3 * SHORT.ttl_s))
    while not waiting.done():
        await first.renew()
        assert first.held
        await clock.sleep(SHORT.renew_period_s)
    assert not waiting.result()


async def test_a_holder_that_renews_no_more_stops_before_the_next_begins(make: Make) -> None:
    first, second = make(), make()
    assert await first.acquire(0)
    both: list[bool] = []
    taking = asyncio.create_task(second.acquire(20))
    while not taking.done():
        both.append(first.held and second.held)
        await SystemClock().sleep(0.01)
    assert taking.result() and second.held and not first.held
    assert not any(both)
    with pytest.raises(Refused) as caught:
        await first.renew()
    assert caught.value.code == "lease_lost"
    assert not await first.acquire(0)
