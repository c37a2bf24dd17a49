"""What holds for every rule, and the names that they have."""

import math

import pytest

from serai.errors import ConfigError
from serai_scheduler.autoscale.decide import Limits, decide
from serai_scheduler.autoscale.history import History
from serai_scheduler.autoscale.needed import needed
from serai_scheduler.autoscale.policies.catalog import NAMES, named
from serai_scheduler.autoscale.policies.policy import Ticks
from serai_scheduler.autoscale.policies.serai import Serai
from tests.unit.autoscale.policies.feeding import TEN_SLOTS, second, wanted

LOADS = [0] * 30 + [5000] * 300 + [0] * 1500


@pytest.mark.parametrize("name", NAMES)
def test_no_count_is_out_of_bounds(name: str) -> None:
    at = wanted(named(name), LOADS, limits=Limits(2, 9, 10.0))
    assert {at(number) for number in range(1, len(LOADS))} <= set(range(2, 10))


@pytest.mark.parametrize("name", NAMES)
def test_a_new_bound_holds_at_once(name: str) -> None:
    policy = named(name)
    policy.add(1.0, second(70, ready=10))
    policy.decide(1.0, TEN_SLOTS)
    assert policy.decide(1.5, Limits(1, 1, 10.0)).wanted == 1
    assert policy.decide(1.6, Limits(40, 50, 10.0)).wanted == 40


@pytest.mark.parametrize("name", sorted({*NAMES} - {"fixed"}))
def test_a_start_shrinks_nothing(name: str) -> None:
    policy = named(name)
    policy.add(1.0, second(0, ready=10))
    assert policy.decide(1.0, TEN_SLOTS).wanted == 10


def test_a_fixed_count_is_fixed_within_the_bounds() -> None:
    at = wanted(named("fixed", {"replicas": 7}), [0, 900, 0])
    assert (at(1), at(2), at(3)) == (7, 7, 7)
    assert wanted(named("fixed", {"replicas": 7}), [0], limits=Limits(0, 5, 1.0))(1) == 5


def test_the_own_rule_is_decide_with_its_last_decision_known() -> None:
    policy, history = Serai(), History()
    for at_s, load in enumerate([10] * 60 + [200] * 60 + [0] * 3000, start=1):
        policy.add(float(at_s), second(load, ready=3))
        history.add(float(at_s), second(load, ready=3))
        expected = decide(history, float(at_s), TEN_SLOTS)
        history.standing = expected.standing
        assert policy.decide(float(at_s), TEN_SLOTS) == expected


def test_a_tick_that_is_a_little_early_counts() -> None:
    ticks = Ticks(10.0)
    assert [ticks.due(at_s) for at_s in (0.0, 9.4, 9.6, 10.1, 19.2, 19.6)] == [
        True, False, True, False, True, False,
    ]  # fmt: skip


def test_rounding_asks_for_nothing() -> None:
    assert (needed(7.0000000001, 3.5), needed(7.01, 3.5), needed(0.0, 3.5)) == (2, 3, 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("knative", {}, "no policy knative; there are serai, cortex, fixed, hpa, kpa"),
        ("kpa", {"delay": 1.0}, "kpa has no option delay; it has target, stable_window_s"),
        ("kpa", {"target": 0.0}, "kpa: target is 0, which is not between 0.01 and 10"),
        ("kpa", {"target": math.nan}, "kpa: target is nan, which is not between"),
        ("cortex", {"window_s": "60s"}, "cortex: window_s is '60s', which is no number"),
        ("hpa", {"tolerance": True}, "hpa: tolerance is True, which is no number"),
        ("hpa", {"tolerance": -0.1}, "hpa: tolerance is -0.1, which is not between 0 and 1"),
        ("fixed", {"replicas": 2.5}, "fixed: replicas is 2.5, which is no whole number"),
        ("serai", {"hold": 1.0}, "serai takes no options, but has hold"),
    ],
)
def test_a_wrong_setting_is_named(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        named(name, options)
