"""How many replicas a metric asks for: by its value, by what is held, and while it is unknown."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.spec.scaling import Autoscaling, Metric
from serai.units import Duration
from serai_scheduler.autoscale.decide import Limits, decide
from serai_scheduler.autoscale.history import History, Sample
from serai_scheduler.autoscale.hold import Hold
from serai_scheduler.autoscale.learned import Found
from serai_scheduler.autoscale.metric.need import (
    MOST_REPLICAS,
    MetricNeed,
    Reading,
)
from serai_scheduler.autoscale.own.answers import Observation, Said
from serai_scheduler.autoscale.own.policy import OwnPolicy
from serai_scheduler.autoscale.policies.awake import Awake
from serai_scheduler.autoscale.rules import metric_need
from serai_scheduler.autoscale.scaler import Past, Scaler, Seen
from serai_scheduler.autoscale.starts import Starts
from serai_scheduler.traffic import Counted, Told
from tests.support.scheduling import deployed
from tests.support.scheduling import spec as api_spec

JOBS = Metric(promql="sum(jobs)", target=2000.0)
AWAY = Reading(None, "it hangs", 70.0)


def need(hold_s: float = 300.0, standing: int = 3, metric: Metric = JOBS) -> MetricNeed:
    return MetricNeed(metric, Hold((hold_s,)), standing)


def passed(one: MetricNeed, begin_s: int, seconds: int, reading: Reading) -> list[int]:
    return [one.add(float(begin_s + n), reading, 10.0).replicas for n in range(seconds)]


@pytest.mark.parametrize(
    ("value", "target", "count"),
    [
        (7900.0, 2000.0, 4),
        (8000.0, 2000.0, 4),
        (8000.1, 2000.0, 5),
        (0.0, 2000.0, 0),
        (1.0, 2000.0, 1),
        (1.1, 0.1, 11),
        (0.6, 0.2, 3),
        (1e308, 0.001, MOST_REPLICAS),
        (5e-324, 1e9, 0),
    ],
)
def test_the_value_over_the_target_rounded_up(value: float, target: float, count: int) -> None:
    asked = need(metric=Metric(promql="x", target=target)).add(0.0, Reading(value), 10.0)
    assert (asked.now, asked.replicas, asked.value) == (count, count, value)


def test_the_highest_need_is_held_then_let_go() -> None:
    one = need(hold_s=300.0)
    assert set(passed(one, 0, 20, Reading(8000.0))) == {4}
    counts = passed(one, 20, 400, Reading(100.0))
    assert set(counts[:290]) == {4} and set(counts[310:]) == {1}


def test_nothing_is_let_go_of_while_it_is_unknown() -> None:
    one = need(hold_s=60.0, standing=9)
    passed(one, 0, 20, Reading(8000.0))
    passed(one, 20, 10, Reading(2000.0))
    counts = passed(one, 30, 3600, AWAY)
    assert set(counts) == {4}, "what was held stays"
    back = passed(one, 3630, 200, Reading(0.0))
    assert set(back[:50]) == {1}, "the last need counted all the while, and is held like any"
    assert back[-1] == 0


def test_what_stood_is_kept_until_it_is_known_for_the_first_time() -> None:
    one = need(standing=6)
    asked = one.add(0.0, AWAY, 10.0)
    assert (asked.replicas, asked.now, asked.fault, asked.unknown_s) == (6, None, "it hangs", 70.0)
    assert set(passed(one, 1, 900, AWAY)) == {6}
    assert one.add(901.0, Reading(2500.0), 10.0).replicas == 2


def test_a_restart_goes_on_from_what_was_held_of_the_same_metric() -> None:
    before = need()
    passed(before, 0, 20, Reading(8000.0))
    kept = before.keep(20.0)
    after = need(standing=2)
    after.restore(5000.0, kept)
    assert after.add(5000.0, AWAY, 10.0).replicas == 4
    assert after.add(5001.0, Reading(10.0), 10.0).replicas == 4
    other = need(standing=2, metric=Metric(promql="sum(jobs)", target=1000.0))
    other.restore(5000.0, kept)
    assert other.add(5000.0, AWAY, 10.0).replicas == 2


def test_a_scaler_hands_on_what_is_held_of_its_metric() -> None:
    plain = api_spec(low=1, high=20)
    scaling = msgspec.structs.replace(plain.autoscaling, policy="serai", metric=JOBS)
    _, stored = deployed(None, msgspec.structs.replace(plain, autoscaling=scaling))
    record = msgspec.structs.replace(stored.record, stable="v1", replicas=1, candidate=None)

    def seen(second: int, value: float) -> Seen:
        counted = Counted(0, 0, 0, 0, {"node": Told(1, float(second))})
        return Seen(record, (), counted, 1000.0, reading=Reading(value))

    def scaler(past: Past | None) -> Scaler:
        return Scaler(0.0, Starts(), past, lambda target, config: Says(1))

    before = scaler(None)
    for second in range(30):
        before.tick(float(second), seen(second, 8000.0))
    learned = before.keep(30.0, 1000.0)
    assert learned is not None and learned.metric is not None
    after = scaler(Past(Found(learned, age_s=5.0), told=()))
    for second in range(30):
        verdict = after.tick(100.0 + second, seen(second, 100.0))
    assert verdict.count == 4 and verdict.metric is not None
    assert (verdict.metric.now, verdict.metric.replicas) == (1, 4)


def test_the_hold_of_the_spec_is_taken() -> None:
    scaling = Autoscaling(metric=JOBS, hold=Duration(30))
    one = metric_need(scaling, 1)
    assert one is not None and metric_need(Autoscaling(), 1) is None
    passed(one, 0, 10, Reading(8000.0))
    assert passed(one, 10, 60, Reading(0.0))[-1] == 0


def second(asked: object, ready: int = 2, running: int = 0) -> Sample:
    return Sample(1.0, 0, 0, running, 0, ready, 0, 4.0, 10.0, 100, asked)  # type: ignore[arg-type]


readings = st.one_of(
    st.just(AWAY),
    st.floats(min_value=0.0, max_value=1e300).map(lambda value: Reading(value)),
    st.integers(min_value=0, max_value=40).map(lambda count: Reading(2000.0 * count)),
)


@given(
    st.lists(st.tuples(readings, st.integers(0, 60)), min_size=1, max_size=60), st.integers(0, 9)
)
def test_no_decision_is_below_what_is_known_to_be_needed_or_above_the_bounds(
    seconds: list[tuple[Reading, int]], standing: int
) -> None:
    """Whatever comes: the bounds hold, the metric's need is met, unknown never shrinks."""
    history, one = History(), need(standing=standing)
    history.stand(standing)
    limits, last = Limits(1, 20, 4.0), None
    for place, (reading, running) in enumerate(seconds):
        asked = one.add(float(place), reading, 10.0)
        history.add(float(place), second(asked, ready=standing, running=running))
        decision = decide(history, float(place), limits)
        history.standing = decision.standing
        assert 1 <= decision.wanted <= 20
        assert decision.wanted >= min(20, asked.replicas)
        assert decision.unbounded == max(decision.by_traffic, asked.replicas)
        if reading.value is not None:
            last = min(20, math.ceil(min(MOST_REPLICAS, reading.value / 2000.0) - 1e-6))
        assert decision.wanted >= min(20, standing if last is None else last)


@given(st.lists(readings, min_size=1, max_size=40))
def test_what_is_kept_holds_no_less(told: list[Reading]) -> None:
    one = need()
    for place, reading in enumerate(told):
        one.add(5.0 * place, reading, 10.0)
    at_s = 5.0 * len(told)
    again = need(standing=0)
    again.restore(at_s, one.keep(at_s))
    held = one.add(at_s, Reading(0.0), 10.0).replicas
    assert again.add(at_s, Reading(0.0), 10.0).replicas >= held


def run(
    one: MetricNeed, history: History, begin_s: int, seconds: int, reading: Reading, ready: int
) -> list[int]:
    limits, counts = Limits(0, 20, 4.0, idle_to_zero_s=60.0), []
    for place in range(begin_s, begin_s + seconds):
        asked = one.add(float(place), reading, 10.0)
        history.add(float(place), second(asked, ready))
        decision = decide(history, float(place), limits)
        history.standing = decision.standing
        ready = decision.wanted
        counts.append(decision.wanted)
    return counts


def test_it_sleeps_only_once_the_metric_is_known_to_ask_for_none_and_wakes_by_it() -> None:
    history, one = History(), need()
    assert min(run(one, history, 0, 300, AWAY, ready=2)) >= 1, "unknown keeps it awake"
    assert min(run(one, history, 300, 100, Reading(3.0), ready=2)) >= 1, "so does a need"
    asleep = run(one, history, 400, 120, Reading(0.0), ready=2)
    assert asleep[50] >= 1 and asleep[-1] == 0
    assert set(run(one, history, 520, 200, AWAY, ready=0)) == {0}, "unknown wakes nothing"
    assert run(one, history, 720, 1, Reading(1.0), ready=0)[0] >= 1


class Says:
    """A policy of one's own that always says the same."""

    def __init__(self, count: int) -> None:
        self.said = Said(count)

    def ask(self, now_s: float, observation: Observation) -> bool:
        return True


def own(count: int, standing: int) -> Awake:
    return Awake(OwnPolicy(Says(count), standing), standing)


LIMITS = Limits(0, 20, 4.0, idle_to_zero_s=60.0)


def test_a_policy_of_ones_own_has_no_less_than_the_metric_asks_for() -> None:
    policy, one = own(2, standing=2), need()
    policy.add(0.0, second(one.add(0.0, Reading(9000.0), 10.0)))
    choice = policy.decide(0.0, LIMITS)
    assert (choice.wanted, choice.unbounded, choice.by_traffic) == (5, 5, 2)
    huge = own(2, standing=2)
    huge.add(0.0, second(one.add(1.0, Reading(1e300), 10.0)))
    assert huge.decide(1.0, LIMITS).wanted == 20


def test_with_a_policy_of_ones_own_it_sleeps_and_wakes_by_the_same_rule() -> None:
    policy, one, ready, counts = own(0, standing=2), need(standing=2), 2, []
    told = [AWAY] * 190 + [Reading(6000.0)] * 10 + [Reading(0.0)] * 100 + [AWAY] * 100
    told += [Reading(5.0)]
    for place, reading in enumerate(told):
        policy.add(float(place), second(one.add(float(place), reading, 10.0), ready))
        ready = policy.decide(float(place), LIMITS).wanted
        counts.append(ready)
    assert set(counts[:190]) == {2} and counts[250] == 3
    assert set(counts[262:400]) == {0}, "what is held keeps nothing awake"
    assert counts[400] >= 1
