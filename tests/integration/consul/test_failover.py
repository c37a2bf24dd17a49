"""A deploy that goes on under the next leader, and a deluded one that changes nothing any more."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from random import Random

import msgspec
import pytest

from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.lease import ConsulLease
from serai.consul.store import ConsulStore
from serai.engine import USUAL_DRAIN_S, EngineNode, LogLine, LogQuery
from serai.errors import Refused
from serai.lease import LeaseSettings
from serai.model import Replica, ReplicaState, Version
from serai_scheduler.deploy import accept
from serai_scheduler.leadership import lead
from serai_scheduler.orders import Orders
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.state import State
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import TrafficBook
from tests.cluster.agents import ConsulAgent
from tests.support.scheduling import around, replica, request, spec
from tests.support.wait import auntil

pytestmark = pytest.mark.engines

SHORT = LeaseSettings(ttl_s=1.0, margin_s=0.3, lock_delay_s=0.2)
DELUDED = LeaseSettings(ttl_s=1.0, margin_s=-1000.0, lock_delay_s=0.2)
TICK_S = 0.05


class SharedEngine:
    """What both schedulers see: replicas that are ready once `open` is set."""

    def __init__(self) -> None:
        self.open = False
        self.starts: Counter[str] = Counter()
        self.epochs: list[int] = []
        self._replicas: dict[str, Replica] = {}

    async def observe(self) -> Sequence[Replica]:
        if self.open:
            for name, one in self._replicas.items():
                if one.state is ReplicaState.STARTING:
                    number = int(name.rpartition(".")[2])
                    ready = replica(one.version, number, api=one.api)
                    self._replicas[name] = msgspec.structs.replace(
                        ready, created_at_s=one.created_at_s
                    )
        return tuple(self._replicas.values())

    async def nodes(self) -> Sequence[EngineNode]:
        return (EngineNode(name="node", takes=True),)

    async def take(self, node: str, takes: bool, epoch: int) -> None:
        raise AssertionError("nobody asked for that")

    async def start(
        self,
        replicas: Sequence[str],
        version: Version,
        epoch: int,
        drain_s: float = USUAL_DRAIN_S,
    ) -> None:
        self._heed(epoch)
        for name in replicas:
            if name not in self._replicas:
                self.starts[name] += 1
                number = int(name.rpartition(".")[2])
                starting = ReplicaState.STARTING
                self._replicas[name] = replica(version.name, number, starting, api=version.api)

    async def grant(self, version: Version, drain_s: float, epoch: int) -> None:
        self._heed(epoch)

    async def stop(self, replicas: Sequence[str], grace_s: float, epoch: int) -> None:
        self._heed(epoch)
        for name in replicas:
            self._replicas.pop(name, None)

    async def forget(self, api: str, epoch: int) -> None:
        self._heed(epoch)

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        none: tuple[LogLine, ...] = ()
        for line in none:
            yield line

    def _heed(self, epoch: int) -> None:
        if self.epochs and epoch < self.epochs[-1]:
            raise Refused(f"epoch {epoch} is over", "fenced")
        self.epochs.append(epoch)


class Leader:
    """One scheduler's parts that act; `orders` and `store` are those of its present epoch."""

    def __init__(
        self, client: ConsulClient, prefix: str, engine: SharedEngine, settings: LeaseSettings
    ) -> None:
        self.lease = ConsulLease(client, SystemClock(), f"{prefix}leader", "test", settings)
        self.store = ConsulStore(client, SystemClock(), prefix, self.lease)
        self.settings = settings
        self._engine = engine
        self.orders: Orders | None = None
        self.ticks = 0

    async def act(self) -> None:
        epoch, state = await self.store.raise_epoch(), State(self.store)
        clock = TermClock(SystemClock())
        reconciler = Reconciler(clock, state, self._engine, TrafficBook(), epoch)
        self.orders = Orders(clock, state, reconciler.kick, epoch)
        while True:
            await reconciler.tick()
            self.ticks += 1
            await reconciler.pause(TICK_S)

    async def lead(self) -> None:
        await lead(self.lease, SystemClock(), self.settings, self.act, Random(1))

    async def deploy(self, count: int) -> None:
        assert self.orders is not None
        wanted = request(spec("iris", low=count), bundle="")
        await self.orders.deploy(wanted, replace(around(), now_s=SystemClock().wall()), accept)


@pytest.fixture
async def clients(consul_agent: ConsulAgent) -> AsyncIterator[tuple[ConsulClient, ConsulClient]]:
    settings = ConsulSettings(port=consul_agent.port)
    async with ConsulClient(settings) as one, ConsulClient(settings) as two:
        yield one, two


async def renew(lease: ConsulLease) -> None:
    while True:
        await lease.renew()
        await SystemClock().sleep(SHORT.renew_period_s)


async def ended(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_next_leader_goes_on_with_a_deploy(
    clients: tuple[ConsulClient, ConsulClient],
) -> None:
    engine, prefix = SharedEngine(), "goes-on/"
    first, second = (Leader(client, prefix, engine, SHORT) for client in clients)
    leading = asyncio.create_task(first.lead())
    await auntil(lambda: first.ticks)
    await first.deploy(3)
    await auntil(lambda: len(engine.starts) == 3)
    waiting = asyncio.create_task(second.lead())
    await ended(leading)  # before anything was ready
    engine.open = True
    await auntil(lambda: second.ticks > 2, 10.0)

    async def live() -> bool:
        apis = await State(second.store).read()
        return bool(apis) and apis["iris"].record.stable != ""

    await auntil(live, 10.0)
    assert set(engine.starts.values()) == {1} and len(engine.starts) == 3
    assert engine.epochs == sorted(engine.epochs)
    await ended(waiting)


async def test_a_leader_that_does_not_know_of_its_end_changes_nothing(
    clients: tuple[ConsulClient, ConsulClient],
) -> None:
    engine, prefix = SharedEngine(), "deluded/"
    old, new = (
        Leader(client, prefix, engine, kind)
        for client, kind in zip(clients, (DELUDED, SHORT), strict=True)
    )
    assert await old.lease.acquire(5)
    renewing = asyncio.create_task(renew(old.lease))
    acting = asyncio.create_task(old.act())
    await auntil(lambda: old.ticks)
    await old.deploy(1)
    await auntil(lambda: engine.starts)
    await ended(renewing)  # from here on nobody does
    leading = asyncio.create_task(new.lead())
    await auntil(lambda: new.ticks, 10.0)
    engine.open = True
    await new.deploy(2)
    old_ticks = old.ticks
    await auntil(lambda: len(engine.starts) == 2 and old.ticks > old_ticks + 5)
    with pytest.raises(Refused) as caught:
        await old.deploy(5)
    assert caught.value.code == "fenced"
    assert old.lease.held and not acting.done(), "it still believes that it leads"
    assert set(engine.starts.values()) == {1} and len(engine.starts) == 2
    assert engine.epochs == sorted(engine.epochs)
    await ended(acting, leading)
