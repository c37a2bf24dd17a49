"""Samples from what gateways have counted: differences, gaps, and counters that fall."""

from serai_scheduler.autoscale.signals import Signals, Supply
from serai_scheduler.traffic import Counted

SUPPLY = Supply(ready=2, starting=1, slots=4.0, start_up_s=30.0, queue_limit=100)


def counted(arrivals: int, completions: int = 0, running: int = 0, queued: int = 0) -> Counted:
    return Counted(arrivals, completions, running, queued)


def test_a_sample_is_what_came_since_the_last_look() -> None:
    signals = Signals()
    assert signals.sample(10.0, counted(1000, 900), SUPPLY) is None
    sample = signals.sample(11.0, counted(1010, 908, 5, 3), SUPPLY)
    assert sample is not None
    assert (sample.elapsed_s, sample.arrivals, sample.completions) == (1.0, 10, 8)
    assert (sample.running, sample.queued, sample.ready, sample.starting) == (5, 3, 2, 1)


def test_unknown_is_not_zero() -> None:
    signals = Signals()
    signals.sample(10.0, counted(0), SUPPLY)
    assert signals.sample(11.0, None, SUPPLY) is None
    assert signals.sample(12.0, None, SUPPLY) is None
    sample = signals.sample(13.0, counted(30), SUPPLY)
    assert sample is not None and (sample.elapsed_s, sample.arrivals) == (3.0, 30)


def test_counters_that_fall_have_begun_anew() -> None:
    signals = Signals()
    signals.sample(10.0, counted(500, 490), SUPPLY)
    sample = signals.sample(11.0, counted(7, 3), SUPPLY)
    assert sample is not None and (sample.arrivals, sample.completions) == (7, 3)
