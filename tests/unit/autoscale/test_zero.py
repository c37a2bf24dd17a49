"""An API that may have no replica at all: when it falls asleep, and what wakes it."""

import math

import pytest

from serai_scheduler.autoscale.decide import Limits, decide
from serai_scheduler.autoscale.history import History, Sample
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


def sample(ready: int = 0, starting: int = 0, queued: int = 0, overdue: int = 0) -> Sample:
    return Sample(1.0, queued, 0, 0, queued, ready, starting, 4.0, 30.0, 100, overdue=overdue)


def after(history: History, seconds: range, seen: Sample, limits: Limits) -> int:
    for second in seconds:
        history.add(float(second), seen)
        decision = decide(history, float(second), limits)
        history.standing = decision.standing
    return decision.wanted


@pytest.mark.parametrize("seen", [sample(overdue=1), sample()], ids=["overdue", "failed"])
def test_a_start_goes_on_when_its_client_has_left(seen: Sample) -> None:
    history = History()
    history.stand(0)
    assert after(history, range(1, 3), sample(queued=1), NONE_AT_LEAST) >= 1
    assert after(history, range(3, 890), seen, NONE_AT_LEAST) >= 1, "not before `idle_to_zero`"
    assert after(history, range(890, 910), seen, NONE_AT_LEAST) == 0


def test_the_last_one_stays_where_nothing_says_when_to_sleep() -> None:
    history, limits = History(), Limits(0, 50, 4.0, idle_to_zero_s=math.inf)
    history.stand(1)
    assert after(history, range(1, 3600), sample(), limits) == 1, "its only replica has failed"
