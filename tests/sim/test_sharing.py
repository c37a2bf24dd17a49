"""A cluster that is too small for what is wanted: who gets the places, and for how long.

At every moment what the whole loop promises (see test_autoscaling.py), and that no API is below its
least bound for the sake of another one's growth.
"""

import msgspec
import pytest

from serai.engine import Capacity
from serai.operator import DeployItem, DeployRequest
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec, Compute, Concurrency, Pod
from serai.units import Duration
from serai_scheduler.deploy import accept
from serai_scheduler.record import ApiRecord
from tests.sim.test_autoscaling import SLOTS, Cluster
from tests.support.scheduling import around

GPUS = 2
"""Of each of three nodes: six places."""


class Small(Cluster):
    """Three nodes with two GPUs each; each replica needs one."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.engine.capacity = Capacity(gpus=GPUS)
        self.changes: dict[str, int] = {}
        self._before: dict[str, int] = {}

    async def serve(self, name: str, rate: float, scaling: Autoscaling) -> None:
        """Deploy an API that is asked for this many requests a second, two seconds each."""
        self.demand(rate, service_s=2.0, name=name)
        spec = ApiSpec(
            name=name,
            endpoint=f"/{name}",
            pod=Pod(command=("serve",)),
            compute=Compute(gpu=1),
            concurrency=Concurrency(per_replica=SLOTS, queue=10_000),
            autoscaling=scaling,
        )
        request = DeployRequest(apis=(DeployItem(spec=spec, bundle="a"),))
        await self.orders.deploy(request, around(self.clock.wall()), accept)

    def placed(self, name: str) -> int:
        return sum(one.api == name and one.alive and bool(one.node) for one in self.engine.replicas)

    async def _check(self) -> None:
        await super()._check()
        for name, stored in (await self.state.read()).items():
            count = stored.record.replicas
            if self._before.get(name, count) != count:
                self.changes[name] = self.changes.get(name, 0) + 1
            self._before[name] = count

    async def count(self, name: str) -> int:
        return (await self.record(name)).replicas

    async def all_counts(self) -> dict[str, int]:
        return {name: one.record.replicas for name, one in (await self.state.read()).items()}


def _scaling(low: int = 1, high: int = 20, priority: int = 50, **more: object) -> Autoscaling:
    return Autoscaling(min_replicas=low, max_replicas=high, priority=priority, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
async def test_least_bounds_hold_and_who_is_held_back_says_so(seed: int) -> None:
    cluster = Small(seed)
    await cluster.serve("loud", 12.0, _scaling())
    await cluster.serve("quiet", 0.2, _scaling(low=2))
    cluster.engine.fault_rate, cluster.gateway.silent_rate = 0.02, 0.1
    await cluster.pass_time(300)
    cluster.engine.fault_rate = cluster.gateway.silent_rate = 0.0
    await cluster.pass_time(200)
    assert (await cluster.count("quiet"), await cluster.count("loud")) == (2, 4)
    assert (cluster.placed("quiet"), cluster.placed("loud")) == (2, 4)
    told = cluster.autoscaler.decisions["loud"]
    assert told.desired is not None and told.desired > 4
    assert f"wanted {told.desired}, got 4" in told.held_back and "quiet" in told.held_back
    assert cluster.autoscaler.decisions["quiet"].held_back == ""


@pytest.mark.parametrize("seed", range(3))
async def test_few_requests_wake_an_api_though_another_wants_every_place(seed: int) -> None:
    cluster = Small(seed)
    await cluster.serve("loud", 30.0, _scaling())
    await cluster.serve("rare", 0.0, _scaling(low=0, init_replicas=0))
    await cluster.pass_time(300)
    assert (await cluster.count("rare"), await cluster.count("loud")) == (0, 6)
    rare, loud = (cluster.gateway.demands[name] for name in ("rare", "loud"))
    rare.rate = lambda now_s: 0.5
    await cluster.pass_time(6)
    rare.rate = lambda now_s: 0.0
    await cluster.pass_time(60)
    assert rare.waits_s and not rare.queue, "answered, all of them"
    assert loud.lost == 0, "whose place it took was drained"
    await cluster.pass_time(600)
    assert await cluster.count("loud") == 6, "it has its place again once nobody asks for rare"


@pytest.mark.parametrize("seed", range(3))
async def test_steady_wants_do_not_swap_places(seed: int) -> None:
    cluster = Small(seed)
    await cluster.serve("one", 6.0, _scaling())
    await cluster.serve("two", 6.0, _scaling())
    await cluster.pass_time(900)
    cluster.changes.clear()
    await cluster.pass_time(3600)
    assert await cluster.count("one") + await cluster.count("two") == 6
    assert sum(cluster.changes.values()) <= 2, f"an hour: {cluster.changes}"


async def test_a_freed_place_goes_to_who_wanted_it() -> None:
    cluster = Small(1)
    await cluster.serve("one", 6.0, _scaling())
    await cluster.serve("two", 6.0, _scaling())
    await cluster.pass_time(600)
    assert await cluster.count("two") < 5
    await cluster.orders.delete("one")
    await cluster.pass_time(120)
    assert await cluster.count("two") == cluster.placed("two") == 6


async def test_a_higher_priority_gets_the_place_of_a_lower_one_with_drain() -> None:
    cluster = Small(2)
    await cluster.serve("low", 12.0, _scaling(priority=10))
    low = cluster.gateway.demands["low"]
    await cluster.pass_time(300)
    assert await cluster.count("low") == 6
    await cluster.serve("high", 12.0, _scaling(low=0, priority=90, init_replicas=0))
    await cluster.pass_time(600)
    assert await cluster.count("high") == 5 and await cluster.count("low") == 1
    assert low.lost == 0, "none of its requests was cut off"
    await cluster.pass_time(600)
    assert await cluster.count("high") == 5, "the lower one does not take it back"


async def test_idle_replicas_stay_warm_until_their_places_are_needed() -> None:
    cluster = Small(3)
    await cluster.serve("idle", 6.0, _scaling(hold=Duration(60)))
    await cluster.pass_time(300)
    warm = await cluster.count("idle")
    assert warm >= 3
    cluster.gateway.demands["idle"].rate = lambda now_s: 0.1
    await cluster.pass_time(1200)
    assert await cluster.count("idle") == warm
    told = cluster.autoscaler.decisions["idle"]
    assert told.idle == warm - 1 and told.desired == 1
    await cluster.serve("new", 8.0, _scaling())
    await cluster.pass_time(300)
    assert await cluster.count("idle") == 6 - await cluster.count("new") < warm
    assert cluster.placed("new") == await cluster.count("new") >= 4


async def test_idle_replicas_go_with_the_hold_where_a_timer_was_asked_for() -> None:
    cluster = Small(3)
    await cluster.serve("idle", 6.0, _scaling(hold=Duration(60), release="timer"))
    await cluster.pass_time(300)
    cluster.gateway.demands["idle"].rate = lambda now_s: 0.1
    await cluster.pass_time(600)
    assert await cluster.count("idle") == 1


async def test_silence_and_blindness_take_nothing_from_anybody() -> None:
    cluster = Small(4)
    await cluster.serve("one", 6.0, _scaling())
    await cluster.serve("two", 6.0, _scaling())
    await cluster.pass_time(600)
    before = await cluster.all_counts()
    cluster.gateway.silent_rate = 1.0
    await cluster.pass_time(60)
    assert await cluster.all_counts() == before
    cluster.gateway.silent_rate, cluster.engine.fault_rate = 0.0, 1.0
    await cluster.pass_time(60)
    assert await cluster.all_counts() == before


async def test_an_update_gets_the_places_of_idle_replicas() -> None:
    cluster = Small(5)
    await cluster.serve("idle", 10.0, _scaling(hold=Duration(60)))
    await cluster.pass_time(300)
    cluster.gateway.demands["idle"].rate = lambda now_s: 0.1
    await cluster.pass_time(600)
    idle = await cluster.count("idle")
    assert idle >= 5
    await cluster.serve("other", 0.1, _scaling(low=1, high=1))
    await cluster.pass_time(60)
    record: ApiRecord = await cluster.record("other")
    spec = msgspec.structs.replace(record.spec, pod=Pod(command=("serve", "anew")))
    request = DeployRequest(apis=(DeployItem(spec=spec, bundle="b"),))
    await cluster.orders.deploy(request, around(cluster.clock.wall()), accept)
    await cluster.pass_time(120)
    assert (await cluster.record("other")).candidate is None
    assert (await cluster.record("other")).stable != record.stable
