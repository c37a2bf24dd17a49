"""Knative's rule, by hand: 10 slots at 0.7 are 7 requests a replica, ticks are at 1, 3, 5, ..."""

import pytest

from serai_scheduler.autoscale.policies.kpa import Kpa, KpaOptions
from tests.unit.autoscale.policies.feeding import TEN_SLOTS, second, wanted


def test_a_start_is_a_panic_at_what_runs() -> None:
    policy = Kpa()
    at = wanted(policy, [0] * 62, ready=8)
    assert {at(second) for second in range(1, 63)} == {8}


@pytest.mark.parametrize(("ready", "count"), [(8, 4), (9, 4), (2, 1), (1000, 500)])
def test_a_tick_at_most_halves_what_is_ready(ready: int, count: int) -> None:
    at = wanted(Kpa(), [0] * 63, ready=ready)
    assert (at(62), at(63)) == (ready, count)


def test_the_mean_of_a_minute_decides_while_nothing_jumps() -> None:
    at = wanted(Kpa(), [21] * 70 + [28] * 70, ready=3)
    assert (at(70), at(99), at(131)) == (3, 4, 4)


def test_a_jump_is_a_panic_in_which_nothing_shrinks_for_a_minute_after() -> None:
    at = wanted(Kpa(), [0] * 60 + [70] * 7 + [0] * 70, ready=1)
    # The means of six seconds: 5.8, 29.2, 52.5 and 70; the last that asks for two is at 71.
    assert [at(second) for second in (61, 63, 65, 67)] == [1, 5, 8, 10]
    assert (at(131), at(132), at(133)) == (10, 10, 1)


def test_a_tick_multiplies_what_is_ready_by_so_much_at_most() -> None:
    at = wanted(Kpa(KpaOptions(max_up=3.0)), [0] * 60 + [700] * 10, ready=1)
    assert at(70) == 3


def test_the_scale_down_delay_keeps_the_highest_count_of_its_window() -> None:
    loads = [14] * 100 + [0] * 100
    at = wanted(Kpa(), loads, ready=2)
    assert (at(130), at(131)) == (2, 1)  # the mean is 7 when 30.5 seconds of 60 are over
    at = wanted(Kpa(KpaOptions(scale_down_delay_s=30.0)), loads, ready=2)
    assert (at(158), at(159)) == (2, 1)  # 129 + 30


def test_what_waits_counts_as_what_runs() -> None:
    policy = Kpa()
    policy.add(1.0, second(10, ready=1, queued=60))
    choice = policy.decide(1.0, TEN_SLOTS)
    assert (choice.wanted, choice.load) == (10, 70.0)
    assert choice.why == "in panic: the highest count since it began"
