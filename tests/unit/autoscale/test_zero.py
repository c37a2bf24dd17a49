"""An API that may have no replica at all: when it falls asleep, and what wakes it."""

import math

import pytest

from serai.wire import encode
from serai_scheduler.autoscale.decide import Limits, decide
from serai_scheduler.autoscale.history import History, Sample
from serai_scheduler.autoscale.learned import InForce, keep, read, resume
from serai_scheduler.autoscale.start_up import StartUp
from tests.support.autoscaling import Service

WALL_S = 1_700_000_000.0
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


def test_all_that_is_held_counts_though_a_queue_would_be_shorter() -> None:
    history, limits = History(), Limits(0, 5000, 1.0)
    after(history, range(1, 60), sample(queue_limit=100), limits)
    after(history, range(60, 61), sample(queued=1000, queue_limit=100), limits)
    held = sample(queued=1000, arrivals=0, queue_limit=100)
    assert after(history, range(61, 90), held, limits) >= 1000, "a first guess is 3 s a request"


def quick_and_idle(idle_s: int) -> History:
    """Return a history of 40 requests/s of 5 ms, then of nothing for a while."""
    history = History()
    history.stand(1)
    for second in range(1, 700):  # one in five seconds is seen to run one
        seen = sample(ready=1, arrivals=40, completions=40, running=int(second % 5 == 0))
        after(history, range(second, second + 1), seen, NONE_AT_LEAST)
    after(history, range(700, 700 + idle_s), sample(ready=1), NONE_AT_LEAST)
    return history


def held(history: History, began_s: int) -> int:
    """Let a thousand requests be held for some seconds; return how many replicas they ask for."""
    waiting = sample(queued=1000, arrivals=0, queue_limit=2000)
    return after(history, range(began_s, began_s + 4), waiting, Limits(0, 1000, 4.0))


@pytest.mark.parametrize("idle_s", [60, 1700, 86_400])
def test_how_long_requests_ran_is_known_however_long_it_slept(idle_s: int) -> None:
    assert held(quick_and_idle(idle_s), 700 + idle_s) <= 3, "they take 5 slots for a second"


def test_how_long_requests_ran_is_known_to_the_next_leader() -> None:
    history = quick_and_idle(1700)
    found = read(encode(keep(history, StartUp(), 2400.0, WALL_S)), WALL_S + 3600.0)
    resumed = resume(found, (), 9000.0, InForce(0, 4.0))
    assert held(resumed, 9001) <= 3


def test_the_last_requests_of_all_tell_no_other_time() -> None:
    """Of requests of 20 s, those that run when no more come are seen for less and less of it."""
    service = Service(slots=4, service_s=20.0, limits=NONE_AT_LEAST)
    service.run(1200, lambda _: 1.0)
    before_s = service.decisions[-1].service_s
    service.run(1200, lambda _: 0.0)
    assert service.decisions[-1].service_s == pytest.approx(before_s, rel=0.05)


def test_a_minimum_of_one_never_sleeps() -> None:
    service = Service(slots=4, service_s=2.0)
    service.run(2 * 3600, lambda _: 0.0)
    assert set(service.wanted) == {1}


def sample(
    ready: int = 0,
    queued: int = 0,
    overdue: int = 0,
    arrivals: int | None = None,
    completions: int = 0,
    running: int = 0,
    queue_limit: int = 100,
) -> Sample:
    return Sample(
        elapsed_s=1.0,
        arrivals=queued if arrivals is None else arrivals,
        completions=completions,
        running=running,
        queued=queued,
        ready=ready,
        starting=0,
        slots=4.0,
        start_up_s=30.0,
        queue_limit=queue_limit,
        overdue=overdue,
    )


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
