"""The block of a spec as a policy and its limits."""

import math

import pytest

from serai.spec.scaling import Autoscaling, CortexRules, Down, Up, Window
from serai.units import Duration
from serai_scheduler.autoscale.history import History, Sample
from serai_scheduler.autoscale.policies.policy import Choice, ChoosingPolicy
from serai_scheduler.autoscale.policies.serai import Serai
from serai_scheduler.autoscale.rules import (
    fresh_history,
    limits_of,
    policy_of,
    rule_of,
)
from serai_scheduler.autoscale.steps import Steps

EIGHT_S = 8 * 3600.0
"""Eight in the morning of 1 January 1970, UTC."""


def sample(running: int, ready: int = 4, queued: int = 0) -> Sample:
    return Sample(1.0, running, running, running, queued, ready, 0, 4.0, 10.0, 100)


def no_own(target: str) -> ChoosingPolicy:
    raise AssertionError(f"{target} is no policy of one's own")


def test_what_is_left_out_is_the_policys_own() -> None:
    limits = limits_of(Autoscaling(), 4.0, EIGHT_S)
    assert (limits.min_replicas, limits.max_replicas, limits.target_slots) == (1, 10, 4.0)
    assert limits.idle_to_zero_s == math.inf, "the last one stays"
    assert limits.less_for_s == 120.0


def test_what_is_said_holds() -> None:
    window = Window(cron="0 8 * * *", for_=Duration(3600), min=3, max=30)
    scaling = Autoscaling(
        min_replicas=0,
        target_in_flight=3.0,
        idle_to_zero=Duration(600),
        down=Down(delay=Duration(5)),
        schedule=(window,),
    )
    limits = limits_of(scaling, 4.0, EIGHT_S + 1.0)
    assert (limits.min_replicas, limits.max_replicas, limits.target_slots) == (3, 30, 3.0)
    assert (limits.idle_to_zero_s, limits.less_for_s) == (600.0, 5.0)
    assert limits_of(scaling, 4.0, EIGHT_S + 3601.0).max_replicas == 10


@pytest.mark.parametrize("policy", ["serai", "kpa", "hpa", "cortex"])
def test_each_policy_follows_the_load(policy: str) -> None:
    scaling = Autoscaling(policy=policy)
    made = policy_of(scaling, fresh_history(scaling), no_own)
    assert made is not None
    for second in range(1, 900):
        made.add(float(second), sample(32))
        wanted = made.decide(float(second), limits_of(scaling, 4.0, 0.0)).wanted
    assert 8 <= wanted <= 12


def test_a_target_is_the_whole_of_it_for_any_policy() -> None:
    for policy in ("kpa", "hpa", "cortex"):
        scaling = Autoscaling(policy=policy, target_in_flight=4.0, max_replicas=20)
        made = policy_of(scaling, fresh_history(scaling), no_own)
        assert made is not None
        for second in range(1, 900):
            made.add(float(second), sample(32, ready=8))
            wanted = made.decide(float(second), limits_of(scaling, 4.0, 0.0)).wanted
        assert wanted == 8, policy


@pytest.mark.parametrize("policy", ["kpa", "hpa", "cortex"])
@pytest.mark.parametrize(
    ("idle", "falls_at_s"), [(None, None), (Duration(900), 1010), (Duration(60), 500)]
)
def test_no_rule_lets_an_api_sleep_before_its_time(
    policy: str, idle: Duration | None, falls_at_s: int | None
) -> None:
    """A rule whose window is longer than `idle_to_zero` takes its own time."""
    scaling = Autoscaling(policy=policy, min_replicas=0, idle_to_zero=idle)
    history = fresh_history(scaling)
    history.stand(1)
    made = policy_of(scaling, history, no_own)
    assert made is not None
    counts = []
    for second in range(1, 2000):
        made.add(float(second), sample(1 if second <= 100 else 0, ready=1))
        counts.append(made.decide(float(second), limits_of(scaling, 4.0, 0.0)).wanted)
    if falls_at_s is None:
        assert set(counts) == {1}, "the last one stays"
        choice = made.decide(1999.0, limits_of(scaling, 4.0, 0.0))
        assert isinstance(choice, Choice) and choice.why.endswith("`idle_to_zero` is not set")
    else:
        first = counts.index(0) + 1
        assert set(counts[first:]) == {0} and first <= falls_at_s
        assert first >= 100 + (idle.seconds if idle is not None else 0)


@pytest.mark.parametrize("policy", ["kpa", "hpa", "cortex"])
def test_what_sleeps_sleeps_on_after_a_restart_until_it_is_asked_for(policy: str) -> None:
    scaling = Autoscaling(policy=policy, min_replicas=0, idle_to_zero=Duration(900))
    history = fresh_history(scaling)
    history.stand(0)
    made = policy_of(scaling, history, no_own)
    assert made is not None
    limits = limits_of(scaling, 4.0, 0.0)
    for second in range(1, 100):
        made.add(float(second), sample(0, ready=0))
        assert made.decide(float(second), limits).wanted == 0
    made.add(100.0, sample(0, ready=0, queued=1))
    assert made.decide(100.0, limits).wanted >= 1


def test_a_fixed_policy_sets_nothing() -> None:
    assert policy_of(Autoscaling(policy="fixed"), History(), no_own) is None


def test_a_hold_and_a_headroom_take_the_place_of_what_is_learned() -> None:
    scaling = Autoscaling(hold=Duration(60), headroom="1.0", down=Down(delay=Duration(0)))
    made = policy_of(scaling, fresh_history(scaling), no_own)
    assert isinstance(made, Serai)
    limits = limits_of(scaling, 4.0, 0.0)
    for second in range(1, 600):
        made.add(float(second), sample(8))
        decision = made.decide(float(second), limits)
    assert decision.lifted == pytest.approx(2 * decision.demand)
    for second in range(600, 760):
        made.add(float(second), sample(0))
        decision = made.decide(float(second), limits)
    assert decision.wanted == 1


def test_other_bounds_are_not_another_rule() -> None:
    one = Autoscaling(min_replicas=1, max_replicas=5, priority=7)
    other = Autoscaling(min_replicas=0, max_replicas=9, idle_to_zero=Duration(60))
    assert rule_of(one) == rule_of(other)
    assert rule_of(one) != rule_of(Autoscaling(policy="cortex", cortex=CortexRules()))
    assert rule_of(one) != rule_of(Autoscaling(hold=Duration(60)))


def test_a_policy_of_one_s_own_begins_anew_with_another_delay() -> None:
    def rule(policy: str, delay_s: float, limit: str = "1") -> Autoscaling:
        return rule_of(Autoscaling(policy=policy, down=Down(limit=limit, delay=Duration(delay_s))))

    limited = Autoscaling(policy="mine:factory", down=Down(limit="1"))
    assert rule_of(limited) == rule_of(Autoscaling(policy="mine:factory")), "none is told"
    assert rule("mine:factory", 60) != rule("mine:factory", 90), "it is told once"
    assert rule("mine:factory", 60) == rule("mine:factory", 60, "2")
    assert rule("serai", 60) == rule("serai", 90)


def test_steps_are_limited_within_any_minute() -> None:
    scaling, steps = Autoscaling(up=Up(limit="2"), down=Down(limit="50%")), Steps()
    steps.stands(0.0, 4)
    counts = []
    for second in range(1, 200):
        count = steps.limited(float(second), 10, scaling)
        steps.stands(float(second), count)
        counts.append(count)
    assert counts[0] == 6 and counts[58] == 6
    assert counts[-1] == 10
    assert all(counts[at + 59] - counts[at] <= 2 for at in range(139))
    assert steps.limited(300.0, 1, scaling) == 5
    assert Steps().limited(0.0, 9, scaling) == 9, "nothing stood before"


def test_without_limits_any_step_is_taken() -> None:
    steps = Steps()
    steps.stands(0.0, 4)
    assert steps.limited(1.0, 100, Autoscaling()) == 100
