"""Recorded traffic under other policies and settings."""

from random import Random

import msgspec
import pytest

from serai.errors import ConfigError
from serai.recorded import RecordedCount, RecordedTraffic
from serai.report import DemandSlot
from serai.spec.scaling import Autoscaling, Metric
from serai.spec.types import ApiSpec, Concurrency, Pod
from serai.units import Duration
from serai_scheduler.replay.answer import Replay
from serai_scheduler.replay.compare import AS_RECORDED, Candidate, demand_of, replay
from serai_scheduler.replay.load import Chance, load_of, mean_service_s
from serai_scheduler.replay.run import Span
from serai_scheduler.replay.settings import changed
from serai_scheduler.replay.system import Load

BEGAN_S = 1_000_000.0
SPEC = ApiSpec(
    name="iris",
    endpoint="/iris",
    pod=Pod(command=("serve",)),
    concurrency=Concurrency(per_replica=2, queue=1000),
    autoscaling=Autoscaling(max_replicas=20, hold=Duration(600)),
)


def chance() -> Chance:
    return Random(7).random


def slot(arrivals: int, service_s: float = 1.0) -> DemandSlot:
    return DemandSlot(arrivals=arrivals, completions=arrivals, busy_s=arrivals * service_s)


def traffic(rates: list[int], *counts: tuple[float, int]) -> RecordedTraffic:
    """Return slots with so many arrivals each, and the counts that stood from seconds on."""
    first = int(BEGAN_S) // 10
    return RecordedTraffic(
        api="iris",
        since_s=BEGAN_S,
        until_s=BEGAN_S + 10.0 * len(rates),
        slots={first + place: slot(rate) for place, rate in enumerate(rates) if rate},
        counts=tuple(
            RecordedCount(at_s=BEGAN_S + at_s, wanted=wanted, start_up_s=20.0)
            for at_s, wanted in counts
        ),
    )


def test_a_metric_is_left_out_and_that_is_told() -> None:
    metric = Metric(promql="sum(jobs)", target=1.0)
    scaling = msgspec.structs.replace(SPEC.autoscaling, metric=metric)
    asking = msgspec.structs.replace(SPEC, autoscaling=scaling)
    told = traffic([20] * 60, (0.0, 2))
    with_it = replay(told, BEGAN_S, asking, [Candidate("serai", changed(asking, "", {}))], chance)
    without = simulated(told, "serai")
    assert with_it.metric_left_out and not without.metric_left_out
    assert with_it.rows == without.rows


def simulated(told: RecordedTraffic, *policies: str, since_s: float = BEGAN_S) -> Replay:
    candidates = [Candidate(one, changed(SPEC, one, {})) for one in policies]
    return replay(told, since_s, SPEC, candidates, chance)


def test_a_load_holds_what_was_counted_where_it_was() -> None:
    slots = {100: slot(50, 0.5), 102: slot(70, 0.5), 400: slot(900, 4.0)}
    load = load_of(slots, 100, 401, chance())
    assert sum(at_s < 10.0 for at_s in load.arrivals_s) == 50
    assert sum(20.0 <= at_s < 30.0 for at_s in load.arrivals_s) == 70
    assert list(load.arrivals_s) == sorted(load.arrivals_s) and len(load.services_s) == 1020
    assert sum(load.services_s[:120]) / 120 == pytest.approx(0.5, rel=0.2)
    assert sum(load.services_s[120:]) / 900 == pytest.approx(4.0, rel=0.2)
    assert load == load_of(slots, 100, 401, chance()), "the same seed, the same requests"
    assert mean_service_s({1: DemandSlot(arrivals=3)}) is None


def test_what_was_recorded_costs_what_stood() -> None:
    told = traffic([4] * 60, (0.0, 2), (300.0, 5))
    (row,) = simulated(told).rows
    assert (row.policy, row.changes, row.most_replicas) == (AS_RECORDED, 1, 5)
    assert row.replica_hours == pytest.approx((300 * 2 + 300 * 5) / 3600, rel=0.01)
    assert row.late == 0 and len(row.replicas) == 60


def test_too_few_replicas_are_late_and_a_policy_helps() -> None:
    told = traffic([5] * 30 + [60] * 90, (0.0, 1))
    answer = simulated(told, "serai", "kpa", "hpa", "cortex", "fixed")
    rows = {one.policy: one for one in answer.rows}
    assert rows[AS_RECORDED].late_percent > 80.0
    assert rows["fixed"].late == rows[AS_RECORDED].late
    for policy in ("serai", "kpa", "hpa", "cortex"):
        assert rows[policy].late < rows["fixed"].late, policy
        assert rows[policy].replica_hours > rows["fixed"].replica_hours
        assert rows[policy].most_replicas >= 3
    assert answer.requests == 5 * 30 + 60 * 90
    assert answer.service_s == pytest.approx(1.0) and answer.start_up_s == 20.0
    assert max(answer.demand) == pytest.approx(3.0, abs=1.5)


def test_slots_that_are_not_to_be_used_ask_for_nothing() -> None:
    """Two requests a second of a second each, at 5 a replica, which could run 100."""
    concurrency = Concurrency(per_replica=100, queue=1000)
    spec = msgspec.structs.replace(SPEC, concurrency=concurrency)
    candidates = [Candidate("5", changed(spec, "serai", {"target_in_flight": "5", "hold": ""}))]
    answer = replay(traffic([20] * 90, (0.0, 1)), BEGAN_S, spec, candidates, chance)
    assert answer.rows[1].most_replicas <= 2


def test_the_time_before_is_warm_up_only() -> None:
    told = traffic([60] * 30 + [5] * 30, (0.0, 1))
    answer = simulated(told, "kpa", since_s=BEGAN_S + 300.0)
    assert answer.requests == 150 and answer.since_s == BEGAN_S + 300.0
    assert all(len(one.replicas) == len(answer.demand) == 30 for one in answer.rows)


def test_nothing_is_made_up_before_what_is_known() -> None:
    told = traffic([0] * 50 + [5] * 50, (450.0, 2))
    answer = simulated(told, "serai")
    assert answer.since_s == BEGAN_S + 450.0
    assert simulated(traffic([0, 5, 5])).since_s == BEGAN_S + 10.0


def test_nothing_recorded_and_too_much_are_told() -> None:
    with pytest.raises(ConfigError, match="no request to iris is recorded of that time"):
        simulated(traffic([0] * 10, (0.0, 1)))
    with pytest.raises(ConfigError, match="name a shorter time with --since"):
        simulated(traffic([3_000_000] * 2))
    first = int(BEGAN_S) // 10
    running = RecordedTraffic(
        api="iris",
        since_s=BEGAN_S,
        until_s=BEGAN_S + 60.0,
        slots={first: DemandSlot(arrivals=2, busy_s=10.0)},
        counts=(),
    )
    with pytest.raises(ConfigError, match="it is not known how long one takes"):
        simulated(running)


def test_demand_is_what_runs_if_nobody_waits() -> None:
    load = Load((0.0, 5.0, 28.0), (20.0, 1.0, 100.0))
    assert demand_of(load, Span(0.0, 30, 0), 2) == pytest.approx((0.55, 0.5, 0.1))
    assert demand_of(load, Span(0.0, 30, 10), 1) == pytest.approx((1.0, 0.2))


def test_settings_are_those_of_a_spec() -> None:
    found = changed(SPEC, "", {"max_replicas": "7", "down.delay": "5m", "headroom": "0.2"})
    assert (found.max_replicas, found.headroom, found.hold) == (7, "0.2", Duration(600))
    assert found.down is not None and found.down.delay == Duration(300)
    kpa = changed(SPEC, "kpa", {"window": "30s"})
    assert (kpa.policy, kpa.hold, kpa.window) == ("kpa", None, Duration(30))


def test_a_setting_can_be_left_out() -> None:
    asleep = Autoscaling(
        min_replicas=0, max_replicas=4, idle_to_zero=Duration(900), hold=Duration(60)
    )
    spec = msgspec.structs.replace(SPEC, autoscaling=asleep)
    with pytest.raises(ConfigError, match="idle_to_zero"):
        changed(spec, "", {"min_replicas": "1"})
    found = changed(spec, "", {"min_replicas": "1", "idle_to_zero": "", "hold": ""})
    assert (found.min_replicas, found.idle_to_zero, found.hold) == (1, None, None)
    with_down = changed(spec, "", {"down.delay": "5m", "down.limit": "2"})
    without = changed(msgspec.structs.replace(spec, autoscaling=with_down), "", {"down.delay": ""})
    assert without.down is not None and without.down.delay is None and without.down.limit


@pytest.mark.parametrize(
    ("policy", "key", "value", "told"),
    [
        ("none", "max_replicas", "3", "there is no policy none; there are serai, cortex"),
        ("", "most", "3", "--set most: there is no such setting; there are min_replicas"),
        ("", "max_replicas", "many", "max_replicas"),
        ("", "max_replicas.low", "3", "max_replicas is one value"),
        ("", "down.fast", "3", "fast"),
        ("kpa", "hold", "10m", "hold"),
        ("", "min_replicas", "30", "max_replicas"),
    ],
)
def test_what_no_spec_could_hold_is_refused(policy: str, key: str, value: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        changed(SPEC, policy, {key: value})


def test_a_policy_of_ones_own_is_not_replayed_but_others_are() -> None:
    own = Autoscaling(policy="mine:factory", min_replicas=1, max_replicas=4)
    spec = msgspec.structs.replace(SPEC, autoscaling=own)
    with pytest.raises(ConfigError, match=r"mine:factory cannot be replayed.*--policy: serai"):
        changed(spec, "", {})
    assert changed(spec, "kpa", {}).policy == "kpa"
