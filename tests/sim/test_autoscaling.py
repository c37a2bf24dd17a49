"""The whole loop under seeded faults: gateways count, the policy asks, the reconciler starts.

Safety at every moment: the count keeps its bounds, nothing that takes requests is stopped, no API
is put to sleep while anything of it is known to run or wait. Liveness: what comes is served in
time.
"""

import math
from random import Random

import pytest

from serai.clock import SimClock
from serai.memory import MemoryStore
from serai.model import ReplicaState
from serai.operator import DeployItem, DeployRequest
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec, Concurrency, Pod
from serai.store import Write
from serai.units import Duration
from serai_scheduler.autoscale.learned import LEARNED_BYTES
from serai_scheduler.autoscale.loop import Autoscaler
from serai_scheduler.autoscale.outside import Outside, OutsideSettings
from serai_scheduler.deploy import accept
from serai_scheduler.ledger import Ledger
from serai_scheduler.orders import Orders
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.record import ApiRecord, api_key
from serai_scheduler.state import State
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import TrafficBook
from tests.sim.cluster import SimEngine
from tests.sim.demand import Demand, DemandGateway
from tests.support.scheduling import around

SLOTS = 4
"""Of each of the simulated engine's replicas."""


class Cluster:
    """Everything real but the node and its gateway."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.clock, self.store = SimClock(), MemoryStore()
        self.engine = SimEngine(self.rng, self.clock)
        self.engine.longest_start_s = 20.0
        self.gateway = DemandGateway(self.rng, self.clock, self.store, self.engine)
        self.state = State(self.store)
        self.term = TermClock(self.clock)
        self.orders = Orders(self.term, self.state, lambda: None, epoch=0)
        self.counts: list[int] = []
        self.busy: dict[str, bool] = {}
        """Which APIs had something that ran or waited when the gateway last told of it."""
        self.ledger = Ledger()
        self.outside = Outside(OutsideSettings(), self.clock, Random(seed))
        self.lead()

    def lead(self) -> None:
        """Begin as a new leader does that knows the store only."""
        self.traffic = TrafficBook()
        self.reconciler = Reconciler(self.term, self.state, self.engine, self.traffic, epoch=0)
        self.autoscaler = Autoscaler(
            self.clock, self.state, self.traffic, self.reconciler, self.ledger, self.outside, 0
        )

    async def deploy(self, name: str, scaling: Autoscaling) -> None:
        spec = ApiSpec(
            name=name,
            endpoint=f"/{name}",
            pod=Pod(command=("serve",)),
            concurrency=Concurrency(per_replica=SLOTS, queue=10_000),
            autoscaling=scaling,
        )
        request = DeployRequest(apis=(DeployItem(spec=spec, bundle="a"),))
        await self.orders.deploy(request, around(self.clock.wall()), accept)

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.clock.sleep(1.0)
            self.engine.step()
            reading = await self.gateway.step()
            if reading is not None:
                self.traffic.add("node", reading, self.clock.now())
                demands = self.gateway.demands.items()
                self.busy = {name: bool(one.running or one.queue) for name, one in demands}
            await self.autoscaler.tick()
            await self.autoscaler.keep_learned()
            await self.reconciler.tick()
            await self._check()

    async def _check(self) -> None:
        assert not self.engine.violations
        for name, stored in (await self.state.read()).items():
            record = stored.record
            bounds = record.spec.autoscaling
            assert bounds.min_replicas <= record.replicas <= bounds.max_replicas
            self.counts.append(record.replicas)
            if record.stable and record.replicas == 0 and self.counts[-2:-1] != [0]:
                assert not self.busy.get(name), "put to sleep at work"

    async def record(self, name: str = "iris") -> ApiRecord:
        return (await self.state.read())[name].record

    def ready(self) -> int:
        return sum(one.state is ReplicaState.READY for one in self.engine.replicas)

    async def has_what_is_wanted_within(self, seconds: int) -> bool:
        """Let time pass until as many replicas are ready as are wanted; say whether they were."""
        for _ in range(seconds):
            if self.ready() == (await self.record()).replicas:
                return True
            await self.pass_time(1)
        return False

    def demand(self, rate: float, service_s: float, name: str = "iris") -> Demand:
        made = self.gateway.demands[name] = Demand(lambda now_s: rate, service_s)
        return made


def late_share(demand: Demand, patience_s: float = 5.0) -> float:
    return sum(one > patience_s for one in demand.waits_s) / max(1, len(demand.waits_s))


@pytest.mark.parametrize("seed", range(6))
async def test_the_count_follows_the_traffic_under_faults(seed: int) -> None:
    cluster = Cluster(seed)
    demand = cluster.demand(0.0, service_s=2.0)
    begin_s = cluster.clock.now()
    demand.rate = lambda now_s: 6.0 + 5.0 * math.sin((now_s - begin_s) / 300.0)
    await cluster.deploy("iris", Autoscaling(min_replicas=1, max_replicas=20))
    cluster.engine.fault_rate, cluster.gateway.silent_rate = 0.02, 0.1
    for _ in range(6):
        await cluster.pass_time(200)
        if cluster.rng.random() < 0.5:
            cluster.gateway.restart()
        if cluster.rng.random() < 0.3:
            cluster.lead()
    cluster.engine.fault_rate = cluster.gateway.silent_rate = 0.0
    demand.waits_s.clear()
    await cluster.pass_time(600)
    record = await cluster.record()
    assert 3 <= record.replicas <= 12, "9 slots now, 22 at the crest"
    assert await cluster.has_what_is_wanted_within(21), "a start takes 20 s at most"
    assert late_share(demand) < 0.02


async def test_a_new_leader_never_shrinks_for_lack_of_history() -> None:
    cluster = Cluster(1)
    cluster.demand(10.0, service_s=2.0)
    await cluster.deploy("iris", Autoscaling(min_replicas=1, max_replicas=20))
    await cluster.pass_time(300)
    before = (await cluster.record()).replicas
    assert before >= 5
    cluster.gateway.demands["iris"].rate = lambda now_s: 0.0
    cluster.lead()
    await cluster.pass_time(700)
    assert (await cluster.record()).replicas >= before


async def test_a_new_leader_goes_on_from_what_was_learned() -> None:
    cluster = Cluster(1)
    demand = cluster.demand(10.0, service_s=2.0)
    await cluster.deploy("iris", Autoscaling(min_replicas=1, max_replicas=20))
    await cluster.pass_time(1500)
    learned = await cluster.state.learned()
    assert set(learned) == {"iris"} and len(learned["iris"]) <= LEARNED_BYTES
    service_s = cluster.autoscaler.decisions["iris"].service_s
    demand.rate = lambda now_s: 0.0
    cluster.lead()
    await cluster.pass_time(10)
    assert cluster.autoscaler.decisions["iris"].service_s == pytest.approx(service_s, rel=0.1)
    await cluster.orders.delete("iris")
    await cluster.pass_time(60)
    assert await cluster.state.learned() == {}
    await cluster.deploy("iris", Autoscaling(min_replicas=1, max_replicas=20))
    await cluster.pass_time(30)
    fresh = cluster.autoscaler.decisions["iris"]
    assert fresh.held is not None and fresh.held < 10.0, "another API of that name is new"


@pytest.mark.parametrize("seed", range(2))
async def test_an_overloaded_api_with_a_small_queue_gets_all_that_it_needs(seed: int) -> None:
    cluster = Cluster(seed)
    demand = cluster.demand(1.0, service_s=10.0)
    demand.queue_limit = 8
    await cluster.deploy("iris", Autoscaling(min_replicas=1, max_replicas=40))
    await cluster.pass_time(120)
    demand.rate = lambda now_s: 8.0  # 80 slots: 20 replicas
    await cluster.pass_time(60)
    assert (await cluster.record()).replicas >= 20 and demand.refused > 0
    before = demand.refused
    await cluster.pass_time(120)
    assert demand.refused == before, "once they are there, nobody is refused"


async def test_silent_gateways_hold_the_count() -> None:
    cluster = Cluster(2)
    demand = cluster.demand(10.0, service_s=2.0)
    await cluster.deploy("iris", Autoscaling(min_replicas=0, max_replicas=20))
    await cluster.pass_time(300)
    before = (await cluster.record()).replicas
    cluster.gateway.silent_rate = 1.0
    demand.rate = lambda now_s: 0.0
    await cluster.pass_time(100)
    assert (await cluster.record()).replicas == before
    assert cluster.autoscaler.decisions["iris"].cause == "unknown"


@pytest.mark.parametrize("seed", range(4))
async def test_an_idle_api_sleeps_and_a_thousand_requests_at_once_wake_it(seed: int) -> None:
    cluster = Cluster(seed)
    demand = cluster.demand(1.0, service_s=0.5)
    scaling = Autoscaling(min_replicas=0, max_replicas=10, idle_to_zero=Duration(60))
    await cluster.deploy("iris", scaling)
    await cluster.pass_time(120)
    assert (await cluster.record()).replicas >= 1
    demand.rate = lambda now_s: 0.0
    await cluster.pass_time(90)
    assert (await cluster.record()).replicas == 0 and cluster.ready() == 0
    await cluster.pass_time(60)
    demand.waits_s.clear()
    demand.burst(1000, cluster.clock.now())
    await cluster.pass_time(90)
    assert demand.lost == 0 and len(demand.waits_s) == 1000
    assert max(demand.waits_s) < 90.0
    assert max(cluster.counts) >= 4, "the number started follows what is held"
    await cluster.pass_time(90)
    assert (await cluster.record()).replicas == 0


async def test_an_api_without_idle_to_zero_keeps_its_last_replica() -> None:
    cluster = Cluster(3)
    cluster.demand(0.0, service_s=0.5)
    await cluster.deploy("iris", Autoscaling(min_replicas=0, max_replicas=10))
    await cluster.pass_time(1200)
    assert (await cluster.record()).replicas == 1


async def test_a_pinned_count_stays_until_it_is_let_go() -> None:
    cluster = Cluster(4)
    cluster.demand(10.0, service_s=2.0)
    await cluster.deploy("iris", Autoscaling(min_replicas=1, max_replicas=20))
    await cluster.pass_time(60)
    await cluster.orders.scale("iris", 2)
    await cluster.pass_time(120)
    assert (await cluster.record()).replicas == 2 and cluster.ready() == 2
    await cluster.orders.scale("iris", None)
    await cluster.pass_time(120)
    assert (await cluster.record()).replicas >= 5


async def test_a_fixed_policy_leaves_the_count_alone() -> None:
    cluster = Cluster(5)
    cluster.demand(10.0, service_s=2.0)
    scaling = Autoscaling(policy="fixed", min_replicas=1, max_replicas=20, init_replicas=3)
    await cluster.deploy("iris", scaling)
    await cluster.pass_time(120)
    assert (await cluster.record()).replicas == 3


async def test_a_record_that_cannot_be_read_for_a_while_costs_nothing_that_was_learned() -> None:
    cluster = Cluster(1)
    cluster.demand(10.0, service_s=2.0)
    await cluster.deploy("iris", Autoscaling(min_replicas=1, max_replicas=20))
    await cluster.pass_time(300)
    key, before = api_key("iris"), (await cluster.record()).replicas
    kept = await cluster.store.get(key)
    assert kept is not None and kept.value is not None
    cluster.lead()
    await cluster.pass_time(10)
    held = cluster.autoscaler.decisions["iris"].held
    await cluster.store.commit([Write(key=key, value=b"none of ours")], 0)
    await cluster.pass_time(30)
    assert set(await cluster.state.learned()) == {"iris"}
    await cluster.store.commit([Write(key=key, value=kept.value)], 0)
    await cluster.pass_time(10)
    now = cluster.autoscaler.decisions["iris"]
    assert held is not None and now.held is not None and now.held >= held
    assert now.wanted >= before
