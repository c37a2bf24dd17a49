"""Falling asleep, being woken, and what clients are told of how long that takes."""

from random import Random

import pytest

from serai.routes import ROUTES, Route
from serai.spec.scaling import Autoscaling
from serai.units import Duration
from serai.wire import decode
from serai_scheduler.retry_after import FIRST_S
from tests.sim.test_autoscaling import Cluster


def sleeper(idle_s: float = 10.0) -> Autoscaling:
    return Autoscaling(min_replicas=0, max_replicas=4, idle_to_zero=Duration(idle_s))


async def asleep(seed: int) -> Cluster:
    cluster = Cluster(seed)
    cluster.demand(0.0, service_s=0.5)
    await cluster.deploy("iris", sleeper())
    await cluster.pass_time(120)
    assert (await cluster.record()).replicas == 0 and cluster.ready() == 0
    return cluster


@pytest.mark.parametrize("seed", range(8))
async def test_requests_that_come_while_the_last_replica_goes_are_held_not_lost(seed: int) -> None:
    cluster = await asleep(seed)
    demand, rng = cluster.gateway.demands["iris"], Random(seed)
    falls = 0
    for _ in range(20):
        demand.burst(rng.randint(1, 3), cluster.clock.now())
        # Around the fall: ten seconds of idleness, then the drain.
        for _ in range(rng.randint(6, 40)):
            before = (await cluster.record()).replicas
            await cluster.pass_time(1)
            falls += before > 0 and (await cluster.record()).replicas == 0
    await cluster.pass_time(120)
    assert falls >= 3, "the schedule meets falls"
    assert demand.lost == 0 and len(demand.waits_s) == demand.arrivals
    assert max(demand.waits_s) < 60.0


@pytest.mark.parametrize("seed", range(8))
async def test_none_is_lost_around_the_fall_with_a_gateway_that_is_late_and_often_silent(
    seed: int,
) -> None:
    """What it does not know of yet, and what is not known of it, is where a fall could lose one."""
    cluster = await asleep(seed)
    cluster.gateway.silent_rate = 0.2
    demand, rng = cluster.gateway.demands["iris"], Random(seed)
    falls = 0
    for _ in range(20):
        demand.burst(1, cluster.clock.now())
        for _ in range(rng.randint(10, 60)):
            before = (await cluster.record()).replicas
            await cluster.pass_time(1)
            falls += before > 0 and (await cluster.record()).replicas == 0
    cluster.gateway.silent_rate = 0.0
    await cluster.pass_time(120)
    assert falls >= 3, "the schedule meets falls"
    assert demand.lost == 0 and len(demand.waits_s) == demand.arrivals


@pytest.mark.parametrize("seed", range(4))
async def test_a_long_stream_keeps_it_awake_until_its_end(seed: int) -> None:
    cluster = await asleep(seed)
    demand = cluster.gateway.demands["iris"]
    demand.service_s = 400.0
    demand.burst(1, cluster.clock.now())
    await cluster.pass_time(60)
    assert demand.running, "it has come to its replica"
    cluster.counts.clear()
    while demand.running:
        await cluster.pass_time(1)
    assert min(cluster.counts) >= 1, "idle_to_zero is 10 s, and the stream took 400"
    assert demand.lost == 0
    await cluster.pass_time(120)
    assert (await cluster.record()).replicas == 0


@pytest.mark.parametrize("seed", range(4))
async def test_a_sleeping_api_that_is_woken_has_one_replica_and_sleeps_again(seed: int) -> None:
    cluster = await asleep(seed)
    cluster.autoscaler.wake("iris")
    cluster.counts.clear()
    most_ready = 0
    for _ in range(90):
        await cluster.pass_time(1)
        most_ready = max(most_ready, cluster.ready())
    assert most_ready == 1 and max(cluster.counts) == 1
    await cluster.pass_time(60)
    assert (await cluster.record()).replicas == 0


async def test_nobody_is_woken_above_the_most_or_against_a_set_count() -> None:
    cluster = await asleep(1)
    await cluster.orders.scale("iris", 0)
    cluster.autoscaler.wake("iris")
    cluster.counts.clear()
    await cluster.pass_time(60)
    assert set(cluster.counts) == {0}


@pytest.mark.parametrize("seed", range(3))
async def test_what_clients_are_told_changes_seldom(seed: int) -> None:
    cluster = await asleep(seed)
    demand, changes, told_s = cluster.gateway.demands["iris"], 0, FIRST_S
    for second in range(1500):
        if second % 60 == 0:
            demand.burst(1, cluster.clock.now())
        await cluster.pass_time(1)
        (entry,) = (await cluster.store.scan(ROUTES)).entries
        now_s = decode(entry.value, Route).retry_after_s
        changes += now_s != told_s
        told_s = now_s
    assert 1 <= changes <= 3, "starts take up to 20 s, each another time"
    assert told_s in (10, 20, 30)
