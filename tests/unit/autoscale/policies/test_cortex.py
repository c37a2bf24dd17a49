"""Cortex's rule, by hand: one slot a replica, ticks are at 1, 11, 21, ..."""

import pytest

from serai_scheduler.autoscale.decide import Limits
from serai_scheduler.autoscale.policies.cortex import Cortex, CortexOptions
from tests.unit.autoscale.policies.feeding import wanted

ONE_SLOT = Limits(1, 1000, 1.0)


def test_every_step_up_sits_out_a_whole_period() -> None:
    at = wanted(Cortex(), [40] * 600, limits=ONE_SLOT)
    steps = {60: 2, 130: 3, 200: 5, 270: 8, 340: 12, 410: 18, 480: 27, 550: 40}
    before = 1
    for age, count in steps.items():
        assert (at(age), at(age + 1)) == (before, count)
        before = count


def test_without_a_period_every_tick_is_a_step() -> None:
    options = CortexOptions(window_s=10.0, upscale_stabilization_period_s=0.0)
    at = wanted(Cortex(options), [40] * 80, limits=ONE_SLOT)
    assert [at(1 + 10 * tick) for tick in range(8)] == [2, 3, 5, 8, 12, 18, 27, 40]


def test_a_larger_factor_takes_larger_steps() -> None:
    options = CortexOptions(max_upscale_factor=10.0)
    at = wanted(Cortex(options), [40] * 140, limits=ONE_SLOT)
    assert (at(60), at(61), at(130), at(131)) == (1, 10, 10, 40)


def test_shrinking_takes_a_quarter_each_period() -> None:
    options = CortexOptions(upscale_stabilization_period_s=0.0, max_upscale_factor=100.0)
    at = wanted(Cortex(options), [40] * 200 + [1] * 800, limits=ONE_SLOT)
    # At 211 the mean is 33.2; at 221 it is 26.7, and 30 is the least that a step allows.
    assert (at(211), at(501), at(511), at(521)) == (40, 40, 34, 30)
    # What was remembered at 521 was limited by 34 replicas, what came after by 30.
    assert (at(811), at(821), at(831)) == (30, 26, 23)


@pytest.mark.parametrize(
    ("load", "count"), [(94, 94), (95, 95), (96, 100), (104, 100), (105, 105), (106, 106)]
)
def test_the_tolerances_are_strict(load: int, count: int) -> None:
    options = CortexOptions(
        upscale_stabilization_period_s=0.0, downscale_stabilization_period_s=0.0
    )
    at = wanted(Cortex(options), [load] * 2, ready=100, limits=ONE_SLOT)
    assert at(1) == count


def test_the_bounds_are_part_of_what_is_remembered() -> None:
    options = CortexOptions(upscale_stabilization_period_s=0.0, max_upscale_factor=100.0)
    at = wanted(Cortex(options), [40] * 20 + [3] * 600, limits=Limits(2, 10, 1.0))
    assert (at(1), at(20)) == (10, 10)
    assert at(400) == 8  # ten less a quarter, 300 s after the last ten
