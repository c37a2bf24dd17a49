"""An API that may have no replica at all: when it falls asleep, and what wakes it."""

import pytest

from serai_scheduler.autoscale.decide import Limits
from tests.support.autoscaling import Service

NONE_AT_LEAST = Limits(0, 50, 4.0, idle_to_zero_s=900.0)


def test_it_falls_asleep_once_nothing_was_asked_for_so_long() -> None:
    service = Service(slots=4, service_s=2.0, limits=NONE_AT_LEAST)
    service.run(600, lambda _: 1.0)
    assert min(service.wanted) >= 1
    service.run(890, lambda _: 0.0)
    assert service.wanted[-1] >= 1, "not before its time"
    service.run(30, lambda _: 0.0)
    assert service.wanted[-1] == 0, "however long what was needed is held"


def test_it_never_falls_asleep_with_a_stream_that_runs() -> None:
    service = Service(slots=4, service_s=4000.0, limits=NONE_AT_LEAST)
    service.run(3, lambda second: 1.0 if second == 1 else 0.0)
    service.run(3600, lambda _: 0.0)
    assert min(service.wanted) >= 1


def test_one_request_wakes_it_at_once() -> None:
    service = Service(slots=1000, service_s=2.0, ready=0, limits=Limits(0, 50, 1000.0))
    service.run(600, lambda _: 0.0)
    assert set(service.wanted) == {0}, "asleep it stays, for nobody asks"
    service.run(1, lambda _: 1.0)
    assert service.wanted[-1] == 1


@pytest.mark.parametrize("held", [40, 400])
def test_how_many_start_follows_what_is_held(held: int) -> None:
    service = Service(slots=4, service_s=2.0, ready=0, limits=NONE_AT_LEAST)
    service.run(60, lambda _: 0.0)
    service.run(2, lambda second: float(held) if second == 0 else 0.0)
    assert min(50, held / 4 / 2) <= service.wanted[-1] <= 50
    service.run(120, lambda _: 0.0)
    assert len(service.waits_s) == held, "none is left"


def test_a_minimum_of_one_never_sleeps() -> None:
    service = Service(slots=4, service_s=2.0)
    service.run(2 * 3600, lambda _: 0.0)
    assert set(service.wanted) == {1}
