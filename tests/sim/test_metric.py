"""The whole loop with a metric beside the requests: what it asks for, and while it is unknown."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from serai.spec.scaling import Autoscaling, Down, Metric
from serai.units import Duration
from serai_scheduler.autoscale.explain import explained
from serai_scheduler.autoscale.metric.answers import Answer
from serai_scheduler.autoscale.metric.book import OLD_AFTER_S
from tests.sim.test_autoscaling import Cluster

AWAY = Answer(None, "Prometheus gave no answer within 5 s")
JOBS = Metric(promql="sum(jobs)", target=100.0)


def of(value: float) -> Answer:
    return Answer(value)


class Prometheus:
    """Answers what is due as the loop that asks does; one that hangs keeps the question open."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.answer: Callable[[float], Answer | None] = lambda now_s: of(0.0)

    async def pass_time(self, seconds: int) -> list[int]:
        """Return the count that stood in each second."""
        counts = []
        for _ in range(seconds):
            now_s, book = self.cluster.clock.now(), self.cluster.outside.metrics.book
            while (question := book.next(now_s)) is not None:
                book.take(now_s, question, self.answer(now_s))
            await self.cluster.pass_time(1)
            counts.append((await self.cluster.record()).replicas)
        return counts


async def deployed(scaling: Autoscaling, seed: int = 1) -> tuple[Cluster, Prometheus]:
    cluster = Cluster(seed)
    cluster.demand(0.5, service_s=1.0)
    await cluster.deploy("iris", scaling)
    return cluster, Prometheus(cluster)


async def test_the_higher_of_both_counts_stands() -> None:
    cluster, prometheus = await deployed(Autoscaling(min_replicas=1, max_replicas=20, metric=JOBS))
    prometheus.answer = lambda now_s: of(790.0)
    assert (await prometheus.pass_time(120))[-1] == 8 and cluster.ready() == 8
    decision = cluster.autoscaler.decisions["iris"]
    assert decision.metric is not None and decision.metric.now == 8
    assert decision.by_traffic is not None and decision.by_traffic < 8 == decision.unbounded
    cluster.gateway.demands["iris"].rate = lambda now_s: 60.0
    assert max(await prometheus.pass_time(120)) > 12, "requests ask for more"


async def test_it_is_bounded_however_large_the_value_is() -> None:
    cluster, prometheus = await deployed(Autoscaling(min_replicas=1, max_replicas=6, metric=JOBS))
    prometheus.answer = lambda now_s: of(1e308)
    assert (await prometheus.pass_time(60))[-1] == 6
    assert "allows 6 at most" in " ".join(explained(cluster.autoscaler.decisions["iris"]))


async def test_nothing_is_let_go_of_while_prometheus_is_away_and_that_is_told() -> None:
    scaling = Autoscaling(min_replicas=1, max_replicas=20, metric=JOBS, hold=Duration(60))
    cluster, prometheus = await deployed(scaling)
    prometheus.answer = lambda now_s: of(790.0)
    await prometheus.pass_time(60)
    prometheus.answer = lambda now_s: AWAY
    counts = await prometheus.pass_time(3600)
    assert set(counts) == {8}
    told = " ".join(explained(cluster.autoscaler.decisions["iris"]))
    assert "The metric is not known, for 60 min now: Prometheus gave no answer" in told
    assert "8 replicas are held" in told
    kept = await cluster.ledger.since("iris", 0.0, math.inf, 10)
    assert any(one.metric is not None and one.metric.fault for one in kept)
    cluster.gateway.demands["iris"].rate = lambda now_s: 60.0
    assert max(await prometheus.pass_time(120)) > 12, "requests may add"
    cluster.gateway.demands["iris"].rate = lambda now_s: 0.0
    await prometheus.pass_time(600)
    prometheus.answer = lambda now_s: of(90.0)
    assert (await prometheus.pass_time(600))[-1] == 1, "known again, it is let go of in its time"


async def test_a_query_that_hangs_for_ever_is_as_one_that_fails() -> None:
    scaling = Autoscaling(min_replicas=1, max_replicas=20, metric=JOBS, hold=Duration(60))
    cluster, prometheus = await deployed(scaling)
    prometheus.answer = lambda now_s: of(500.0)
    await prometheus.pass_time(60)
    book = cluster.outside.metrics.book
    while book.next(cluster.clock.now()) is None:
        await prometheus.cluster.pass_time(1)
    await cluster.pass_time(int(OLD_AFTER_S) + 600)  # the question stays open
    assert (await cluster.record()).replicas == 5
    decision = cluster.autoscaler.decisions["iris"]
    assert decision.metric is not None and decision.metric.now is None


async def test_a_new_leader_that_reaches_no_prometheus_keeps_what_stood() -> None:
    scaling = Autoscaling(min_replicas=1, max_replicas=20, metric=JOBS, hold=Duration(60))
    cluster, prometheus = await deployed(scaling)
    prometheus.answer = lambda now_s: of(790.0)
    await prometheus.pass_time(300)
    cluster.outside.metrics.follow({})  # what a new process knows
    prometheus.answer = lambda now_s: AWAY
    cluster.lead()
    assert set(await prometheus.pass_time(3600)) == {8}
    prometheus.answer = lambda now_s: of(200.0)
    assert (await prometheus.pass_time(600))[-1] == 2


async def test_a_new_leader_goes_on_from_what_was_held() -> None:
    cluster, prometheus = await deployed(Autoscaling(min_replicas=1, max_replicas=20, metric=JOBS))
    prometheus.answer = lambda now_s: of(790.0)
    await prometheus.pass_time(300)
    cluster.outside.metrics.follow({})  # what a new process knows
    prometheus.answer = lambda now_s: of(100.0)
    cluster.lead()
    assert set(await prometheus.pass_time(300)) == {8}, "as it would have been without the change"


async def test_a_metric_that_swings_does_not_make_replicas_come_and_go() -> None:
    cluster, prometheus = await deployed(Autoscaling(min_replicas=1, max_replicas=20, metric=JOBS))
    begin_s = cluster.clock.now()

    def swing(now_s: float) -> Answer:
        return of(500.0 + 400.0 * math.sin((now_s - begin_s) / 60.0))

    def flaky(now_s: float) -> Answer:
        return AWAY if int(now_s) % 7 < 3 else swing(now_s)

    prometheus.answer = swing
    await prometheus.pass_time(600)
    for answer in (swing, flaky):
        prometheus.answer = answer
        counts = await prometheus.pass_time(1800)
        assert min(counts) >= 9, "the crest comes every six minutes"
        assert sum(a != b for a, b in pairwise(counts)) <= 2


async def test_limits_of_steps_hold_for_a_metric_too() -> None:
    scaling = Autoscaling(
        min_replicas=1,
        max_replicas=20,
        metric=JOBS,
        hold=Duration(10),
        down=Down(limit="1", delay=Duration(0)),
    )
    _, prometheus = await deployed(scaling)
    prometheus.answer = lambda now_s: of(790.0)
    await prometheus.pass_time(120)
    prometheus.answer = lambda now_s: of(0.0)
    counts = await prometheus.pass_time(400)
    assert all(a - b <= 1 for a, b in zip(counts, counts[60:], strict=False)), "one a minute"
    assert counts[-1] < 4


@pytest.mark.parametrize("seed", range(3))
async def test_it_sleeps_only_while_the_metric_asks_for_none_and_wakes_by_it(seed: int) -> None:
    scaling = Autoscaling(min_replicas=0, max_replicas=10, metric=JOBS, idle_to_zero=Duration(60))
    cluster, prometheus = await deployed(scaling, seed)
    await prometheus.pass_time(60)
    cluster.gateway.demands["iris"].rate = lambda now_s: 0.0
    prometheus.answer = lambda now_s: of(1.0)
    assert min(await prometheus.pass_time(300)) >= 1
    prometheus.answer = lambda now_s: AWAY
    assert min(await prometheus.pass_time(600)) >= 1, "unknown is not zero"
    prometheus.answer = lambda now_s: of(0.0)
    assert (await prometheus.pass_time(120))[-1] == 0
    prometheus.answer = lambda now_s: AWAY
    assert set(await prometheus.pass_time(300)) == {0}, "unknown wakes nothing"
    prometheus.answer = lambda now_s: of(150.0)
    assert max(await prometheus.pass_time(60)) >= 2
    assert cluster.ready() >= 1


async def test_another_target_counts_at_once() -> None:
    scaling = Autoscaling(min_replicas=1, max_replicas=20, metric=JOBS)
    cluster, prometheus = await deployed(scaling)
    prometheus.answer = lambda now_s: of(790.0)
    await prometheus.pass_time(120)
    dearer = Metric(promql=JOBS.promql, target=400.0)
    await cluster.deploy("iris", Autoscaling(min_replicas=1, max_replicas=20, metric=dearer))
    assert set(await prometheus.pass_time(100)) == {8}
    assert (await prometheus.pass_time(120))[-1] <= 3, "no old need of another target is held"
