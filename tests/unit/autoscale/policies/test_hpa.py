"""Kubernetes' rule, by hand: 10 slots at 0.7 are 7 requests a replica, ticks are at 1, 16, ..."""

import pytest

from serai_scheduler.autoscale.decide import Limits
from serai_scheduler.autoscale.policies.hpa import Hpa, HpaOptions
from tests.unit.autoscale.policies.feeding import second, wanted


@pytest.mark.parametrize(
    ("load", "count"), [(70, 10), (75, 10), (76, 10), (78, 12), (80, 12), (63, 10), (62, 10)]
)
def test_a_tenth_is_tolerated_and_less_is_held(load: int, count: int) -> None:
    assert wanted(Hpa(), [load], ready=10)(1) == count


def test_a_step_doubles_or_adds_four() -> None:
    at = wanted(Hpa(), [700] * 80)
    assert [at(1 + 15 * tick) for tick in range(6)] == [5, 10, 20, 40, 80, 100]


def test_between_ticks_nothing_changes() -> None:
    at = wanted(Hpa(), [700] * 16)
    assert {at(second) for second in range(1, 16)} == {5}


def test_it_shrinks_to_the_highest_of_five_minutes() -> None:
    at = wanted(Hpa(), [7] * 320, ready=10)
    assert (at(301), at(315), at(316)) == (10, 10, 1)


def test_the_window_of_shrinking_can_be_set() -> None:
    at = wanted(Hpa(HpaOptions(downscale_stabilization_s=600.0)), [7] * 620, ready=10)
    assert (at(615), at(616)) == (10, 1)


def test_a_step_and_the_tolerance_are_of_the_bounded_count() -> None:
    at = wanted(Hpa(), [700] * 20 + [9] * 330, limits=Limits(1, 3, 10.0))
    assert (at(1), at(16)) == (3, 3)
    assert at(350) == 2  # nine over seven, five minutes after the last hundred


def test_what_was_asked_beyond_the_bounds_is_told() -> None:
    policy = Hpa()
    policy.add(1.0, second(700, ready=3))
    choice = policy.decide(1.0, Limits(1, 3, 10.0))
    assert (choice.wanted, choice.unbounded, choice.why) == (3, 7, "a step up is limited")
