"""Samples from what gateways have counted: differences, gaps, and what cannot be one."""

import pytest

from serai_scheduler.autoscale.signals import Signals, Supply
from serai_scheduler.traffic import Counted, Told

SUPPLY = Supply(ready=2, starting=1, slots=4.0, start_up_s=30.0, queue_limit=100)


def counted(
    arrivals: int,
    completions: int = 0,
    running: int = 0,
    queued: int = 0,
    **told: float | tuple[int, float],
) -> Counted:
    """`told` is by gateway: when its counters were read, with the stretch where that is no 1."""
    each = {node: one if isinstance(one, tuple) else (1, one) for node, one in told.items()}
    times = {node: Told(stretch, at_s) for node, (stretch, at_s) in each.items()}
    return Counted(arrivals, completions, running, queued, times)


def test_a_sample_is_what_came_since_the_last_look() -> None:
    signals = Signals()
    assert signals.sample(counted(1000, 900, one=10.0), SUPPLY) is None and not signals.known
    sample = signals.sample(counted(1010, 908, 5, 3, one=11.0), SUPPLY)
    assert sample is not None and signals.known
    assert (sample.elapsed_s, sample.arrivals, sample.completions) == (1.0, 10, 8)
    assert (sample.running, sample.queued, sample.ready, sample.starting) == (5, 3, 2, 1)


def test_unknown_is_not_zero() -> None:
    signals = Signals()
    signals.sample(counted(0, one=10.0), SUPPLY)
    assert signals.sample(None, SUPPLY) is None
    assert signals.sample(None, SUPPLY) is None and not signals.known
    sample = signals.sample(counted(30, one=13.0), SUPPLY)
    assert sample is not None and (sample.elapsed_s, sample.arrivals) == (3.0, 30)


def test_nothing_new_is_not_zero() -> None:
    """A report that is late for a second was taken for a second without a request."""
    signals = Signals()
    signals.sample(counted(0, one=10.0, two=20.3), SUPPLY)
    assert signals.sample(counted(20, one=11.0, two=21.3), SUPPLY) is not None
    assert signals.sample(counted(20, one=11.0, two=21.3), SUPPLY) is None
    assert signals.sample(counted(30, one=12.0, two=21.3), SUPPLY) is None
    assert signals.known, "what was decided stands"
    sample = signals.sample(counted(60, one=13.0, two=23.3), SUPPLY)
    assert sample is not None and (sample.elapsed_s, sample.arrivals) == (2.0, 40)


@pytest.mark.parametrize(
    "after",
    [
        counted(480, 490, one=11.0),
        counted(510, 470, one=11.0),
        counted(510, 490, one=(2, 1.0)),
        counted(510, 490, one=11.0, two=(2, 5.0)),
        counted(510, 490, two=(2, 5.0)),
    ],
    ids=["arrivals fell", "completions fell", "began anew", "another came", "another took over"],
)
def test_what_is_no_difference_is_a_base_to_count_from(after: Counted) -> None:
    signals = Signals()
    signals.sample(counted(490, 480, one=9.0), SUPPLY)
    assert signals.sample(counted(500, 490, one=10.0), SUPPLY) is not None
    assert signals.sample(after, SUPPLY) is None
    assert not signals.known, "nobody knows what came meanwhile"
    told = {node: Told(one.stretch, one.at_s + 1.0) for node, one in after.told.items()}
    later = Counted(after.arrivals + 10, after.completions + 9, 0, 0, told)
    sample = signals.sample(later, SUPPLY)
    assert sample is not None and signals.known
    assert (sample.elapsed_s, sample.arrivals, sample.completions) == (1.0, 10, 9)
