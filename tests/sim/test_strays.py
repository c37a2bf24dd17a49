"""Replicas that the store knows nothing of: ended where that is sure, else left alone."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from serai.clock import SimClock
from serai.memory import MemoryStore
from serai.model import Version
from serai.operator import DeployItem, DeployRequest
from serai.tasks import cancelled
from serai_scheduler.deploy import accept
from serai_scheduler.orders import Orders
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.state import State
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import TrafficBook
from tests.sim.cluster import SimEngine, SimGateway
from tests.support.scheduling import around, deployed, spec
from tests.support.wait import auntil


class World:
    """One engine, and a scheduler on a store that may be another one than before."""

    def __init__(self, engine: SimEngine | None = None, clock: SimClock | None = None) -> None:
        self.clock, self.store = clock or SimClock(), MemoryStore()
        self.engine = engine or SimEngine(Random(1), self.clock)
        SimGateway(Random(1), self.store, self.engine)
        self.state = State(self.store)
        traffic, term = TrafficBook(), TermClock(self.clock)
        self.reconciler = Reconciler(term, self.state, self.engine, traffic, epoch=0)
        self.orders = Orders(term, self.state, lambda: None, epoch=0)

    async def deploy(self, name: str, bundle: str = "a") -> None:
        request = DeployRequest(apis=(DeployItem(spec=spec(name), bundle=bundle),))
        await self.orders.deploy(request, around(self.clock.wall()), accept)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, then let the engine and the scheduler see it."""
        await self.clock.sleep(seconds)
        self.engine.step()
        await self.reconciler.tick()

    def alive(self) -> list[str]:
        return sorted(r.id for r in self.engine.replicas if r.alive and r.state != "draining")


async def test_a_store_that_lost_everything_ends_nothing() -> None:
    before = World()
    await before.deploy("iris")
    await before.reconciler.tick()
    (running,) = before.alive()
    after = World(before.engine)
    await after.reconciler.tick()
    assert after.alive() == [running]
    await after.deploy("text")
    await after.reconciler.tick()
    assert running in after.alive(), "nor does the first API that is deployed anew"


async def test_only_replicas_that_run_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    before = World()
    await before.deploy("iris")
    await before.reconciler.tick()
    await World(before.engine).reconciler.tick()
    assert "left as it is" in caplog.text
    (running,) = before.alive()
    await before.engine.stop([running], 1.0, 0)
    await before.clock.sleep(10.0)
    before.engine.step()
    caplog.clear()
    await World(before.engine).reconciler.tick()
    assert caplog.text == ""


async def test_what_an_order_started_whose_version_is_gone_is_ended() -> None:
    world = World()
    await world.deploy("iris")
    await world.reconciler.tick()
    accepted, _ = deployed(None, spec("iris"), bundle="other")
    assert isinstance(accepted.version, Version)
    late = f"iris.{accepted.version.name}.1"
    await world.engine.start([late], accepted.version, 0)
    await world.reconciler.tick()
    assert late not in world.alive() and len(world.alive()) == 1


class Stuck(SimEngine):
    """Does not answer whoever wants to stop anything."""

    async def stop(self, replicas: Sequence[str], grace_s: float, epoch: int) -> None:
        await asyncio.Event().wait()


async def test_strays_that_cannot_be_ended_hold_up_no_api() -> None:
    clock = SimClock()
    world = World(Stuck(Random(1), clock))
    accepted, _ = deployed(None, spec("iris"), bundle="other")
    assert isinstance(accepted.version, Version)
    await world.deploy("iris")
    await world.engine.start([f"iris.{accepted.version.name}.1"], accepted.version, 0)
    ticking = asyncio.create_task(world.reconciler.tick())
    await auntil(lambda: len(world.alive()) == 2)
    assert not ticking.done()
    await cancelled(ticking)
