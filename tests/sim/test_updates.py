"""Seeded runs of the real reconciler: deploys, scales and deletes under faults, then rest.

Safety at every moment: no replica that takes requests is stopped, nothing is started twice, the
serving version keeps a ready replica through every update. Liveness once the faults end: every
API is as it was asked to be.
"""

from random import Random

import pytest

from serai.clock import SimClock
from serai.errors import Refused
from serai.memory import MemoryStore
from serai.model import ReplicaState
from serai.operator import DeployItem, DeployRequest, NodeRequest, NodeWish
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec, Pod, Timeouts
from serai.units import Duration
from serai_scheduler.deploy import Surroundings, accept
from serai_scheduler.orders import Orders
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.record import wanted_replicas
from serai_scheduler.state import State
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import TrafficBook
from tests.sim.cluster import BROKEN, NODES, SimEngine, SimGateway

TICK_S = 0.5
STORM_TICKS = 300
REST_TICKS = 900
NAMES = ("iris", "text", "ocr")


class Run:
    """One seed's world: everything real but the node."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.clock = SimClock()
        self.store = MemoryStore()
        self.engine = SimEngine(self.rng, self.clock)
        self.gateway = SimGateway(self.rng, self.store, self.engine)
        self.traffic = TrafficBook()
        self.state = State(self.store)
        term = TermClock(self.clock)
        self.reconciler = Reconciler(term, self.state, self.engine, self.traffic, epoch=0)
        self.orders = Orders(term, self.state, lambda: None, epoch=0)
        self.expected: dict[str, str] = {}
        """The bundle that each API shall serve in the end: the last good one accepted."""

    async def tick(self) -> None:
        self.engine.step()
        reading = await self.gateway.step()
        if reading is not None:
            self.traffic.add("node", reading, self.clock.now())
        await self.reconciler.tick()
        await self.clock.sleep(TICK_S)

    async def user_does_something(self) -> None:
        name = self.rng.choice(NAMES)
        try:
            match self.rng.randint(0, 9):
                case 0:
                    await self.orders.delete(name)
                    self.expected.pop(name, None)
                case 1 | 2:
                    await self.orders.scale(name, self.rng.choice((0, 0, 1, 2, 3, 4)))
                case 3:
                    await self.orders.refresh(name)
                case 4:
                    await self.order_node()
                case _:
                    await self.deploy(name)
        except Refused:
            return

    async def order_node(self) -> None:
        """Close, empty or open a node; one is always left that takes replicas."""
        wish = self.rng.choice(tuple(NodeWish))
        limit_s = self.rng.choice((None, None, 0.0, 20.0))
        node = self.rng.choice(NODES[1:])
        await self.orders.node(NodeRequest(wish=wish, limit_s=limit_s), node)

    async def deploy(self, name: str) -> None:
        bundle = self.rng.choice((BROKEN, "a", "b", "c", "d"))
        spec = ApiSpec(
            name=name,
            endpoint=f"/{name}",
            pod=Pod(command=("serve",)),
            timeouts=Timeouts(total=Duration(self.rng.choice((60, 600, 1200)))),
            autoscaling=Autoscaling(
                min_replicas=self.rng.choice((0, 1)), max_replicas=self.rng.randint(4, 6)
            ),
        )
        force = self.rng.random() < 0.5
        request = DeployRequest(apis=(DeployItem(spec=spec, bundle=bundle),), force=force)
        await self.orders.deploy(request, Surroundings(self.clock.wall(), "", "3.11"), accept)
        if bundle != BROKEN:
            self.expected[name] = bundle

    def drained(self) -> set[str]:
        intents = self.state.intents.values()
        return {one.node for one in intents if one.wish is NodeWish.DRAIN}

    async def check_now(self) -> None:
        assert not self.engine.violations
        for name, stored in (await self.state.read()).items():
            for version in stored.record.versions:
                spec = stored.record.spec
                candidate = stored.record.candidate
                if candidate is not None and candidate.version == version:
                    spec = candidate.spec
                alive = [r for r in self.engine.replicas if r.version == version and r.alive]
                mine = [r for r in alive if r.api == name and r.state != ReplicaState.DRAINING]
                leaving = {entry.replica for entry in stored.record.draining}
                drained = self.drained()
                counted = [r for r in mine if r.id not in leaving and r.node not in drained]
                assert len(counted) <= spec.autoscaling.max_replicas


@pytest.mark.parametrize("seed", range(60))
async def test_updates_lose_nothing_and_come_to_rest(seed: int) -> None:
    run = Run(seed)
    run.engine.fault_rate, run.engine.busy_rate = 0.15, 0.02
    run.gateway.silent_rate = 0.3
    run.gateway.ending_rate = run.rng.choice((0.05, 0.3, 1.0))
    for _ in range(STORM_TICKS):
        if run.rng.random() < 0.08:
            await run.user_does_something()
        await run.tick()
        await run.check_now()
    run.engine.fault_rate = run.engine.busy_rate = run.gateway.silent_rate = 0.0
    run.gateway.ending_rate = 1.0
    for _ in range(REST_TICKS):
        await run.tick()
        await run.check_now()
    apis = await run.state.read()
    for name, stored in apis.items():
        record = stored.record
        assert record.candidate is None and not record.retiring and not record.draining
        ready = [r for r in run.engine.replicas if r.api == name and r.alive]
        if not record.stable:
            assert record.last_error and not ready
            continue
        assert {r.version for r in ready} <= {record.stable}, f"seed {seed}"
        assert len(ready) == wanted_replicas(record, record.spec), f"seed {seed}"
        assert all(r.state is ReplicaState.READY for r in ready)
        assert run.gateway.serving(name) == record.stable
        if ready:
            told_s = run.engine.drains_s[name, record.stable]
            assert told_s == record.spec.timeouts.total.seconds, f"seed {seed}"
        assert not {r.node for r in ready} & run.drained(), f"seed {seed}"
    wishes = {one.node: one.wish for one in run.state.intents.values()}
    assert NodeWish.OPEN not in wishes.values(), "what is fulfilled is forgotten"
    for node in await run.engine.nodes():
        assert node.takes == (node.name not in wishes), f"seed {seed}"
    assert set(run.expected) <= set(apis)
