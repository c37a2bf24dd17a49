"""Demand without the queue: Little's law at any service time, and streams that never end."""

import pytest

from serai_scheduler.autoscale.demand import Demand


@pytest.mark.parametrize("service_s", [0.005, 0.1, 1.0, 10.0, 120.0])
def test_it_is_rate_times_service_time(service_s: float) -> None:
    demand, slots = Demand(), 20.0
    rate = slots / service_s
    owed = 0.0
    for second in range(1, 1500):
        owed += rate
        came = int(owed)
        owed -= came
        demand.add(float(second), 1.0, came, came if second > service_s else 0, int(slots), 0)
    assert demand.steady == pytest.approx(slots, rel=0.1)
    assert demand.service_s == pytest.approx(service_s, rel=0.1)


def test_a_queue_is_no_demand() -> None:
    """Twice as much comes as runs: the demand is what comes, however long the queue has grown."""
    demand = Demand()
    for second in range(1, 601):
        demand.add(float(second), 1.0, 20, 10, 10, 10 * second)
    assert demand.service_s == pytest.approx(1.0, rel=0.05)
    assert demand.now == pytest.approx(20.0, rel=0.05)


def test_quick_requests_are_not_taken_for_slow_ones_at_the_start() -> None:
    demand = Demand()
    demand.add(1.0, 1.0, 100, 100, 1, 0)
    assert demand.now < 2.0, "100 requests of 5 ms are half a slot"


def test_streams_of_which_none_has_ended_count() -> None:
    demand = Demand()
    for second in range(1, 301):
        new = 1 if second <= 50 else 0
        demand.add(float(second), 1.0, new, 0, min(second, 50), 0)
    assert demand.now == pytest.approx(50.0, rel=0.05)


def test_streams_that_began_before_count_once_nothing_has_waited_for_a_minute() -> None:
    demand = Demand()
    for second in range(1, 121):
        demand.add(float(second), 1.0, 0, 0, 50, 0)
    assert demand.now == pytest.approx(50.0, rel=0.05)


def test_a_pause_in_what_is_told_changes_neither_rate_nor_time() -> None:
    every_second, with_pauses = Demand(), Demand()
    for second in range(1, 601):
        every_second.add(float(second), 1.0, 10, 10, 20, 0)
        if second % 5 == 0:
            with_pauses.add(float(second), 5.0, 50, 50, 20, 0)
    assert with_pauses.steady == pytest.approx(every_second.steady, rel=0.01)
