"""The promises of the policy, each on a service of its kind."""

import math
from itertools import pairwise

import pytest

from serai_scheduler.autoscale.decide import LESS_FOR_S, Decision, Limits, decide
from serai_scheduler.autoscale.history import History, Sample
from serai_scheduler.autoscale.hold import WINDOWS_S, Hold
from tests.support.autoscaling import Service

HOUR = 3600


def test_steady_traffic_has_what_it_needs_and_little_more() -> None:
    service = Service(slots=4, service_s=2.0, ready=1)
    service.run(2 * HOUR, lambda _: 10.0)  # 20 slots: 5 replicas
    assert {5, 6, 7} >= set(service.wanted[-HOUR:])
    assert service.changes() <= 30
    after_start = service.late() - sum(wait_s > 5.0 for wait_s in service.waits_s[:900])
    assert after_start == 0


@pytest.mark.parametrize("service_s", [0.005, 0.05, 0.5, 5.0, 120.0])
@pytest.mark.parametrize("slots", [1, 16, 1000])
def test_a_tiny_service_stays_at_its_minimum(service_s: float, slots: int) -> None:
    """A tenth of a slot is asked for: one replica is enough for it at all times."""
    service = Service(slots=slots, service_s=service_s, limits=Limits(1, 100, float(slots)))
    rate = 0.1 / service_s
    service.run(HOUR, lambda _: rate)
    assert max(service.wanted[60:]) <= 2, "one more at most, when requests happen to meet"
    assert service.wanted[-1] == 1


@pytest.mark.parametrize("start_up_s", [2, 15, 120])
@pytest.mark.parametrize(
    ("service_s", "every_s"), [(0.005, 1), (0.05, 1), (0.5, 1), (0.5, 10), (2.0, 10), (2.0, 60)]
)
def test_a_fresh_api_has_one_replica_while_one_is_ample(
    service_s: float, every_s: int, start_up_s: int
) -> None:
    service = Service(1, service_s, start_up_s, limits=Limits(1, 10, 1.0))
    service.run(5, lambda _: 0.0)
    service.run(HOUR, lambda _: 1.0 / every_s)
    assert set(service.wanted) == {1}, "from the first request on"
    assert service.late() == 0


def test_a_fresh_api_that_one_replica_cannot_serve_has_more_at_once() -> None:
    service = Service(1, 2.0, 15, limits=Limits(1, 10, 1.0))
    service.run(60, lambda _: 1.5)
    assert max(service.wanted[:10]) >= 3, "what it takes; no headroom is learned yet"
    assert service.wanted[-1] > 3


@pytest.mark.parametrize("service_s", [0.005, 0.05, 0.5, 5.0, 120.0])
@pytest.mark.parametrize("slots", [1, 16, 1000])
def test_any_service_time_and_any_number_of_slots(service_s: float, slots: int) -> None:
    service = Service(slots=slots, service_s=service_s, limits=Limits(1, 100, float(slots)))
    service.come = 100
    rate = 7.5 * slots / service_s
    if rate > 2_000:  # as much as this model of a queue counts in a moment
        rate = 2_000.0
    need = rate * service_s / slots
    service.run(1200, lambda _: rate)
    assert need <= service.wanted[-1] <= math.ceil(need * 1.3) + 2
    assert service.ready >= need


@pytest.mark.parametrize("start_up_s", [1, 10, 60, 600])
def test_a_step_is_answered_at_once(start_up_s: int) -> None:
    service = Service(slots=4, service_s=2.0, start_up_s=start_up_s, ready=2)
    service.run(600, lambda _: 2.0)
    service.run(30, lambda _: 20.0)  # 40 slots: 10 replicas
    assert service.wanted[-1] >= 10, "within half a minute, whatever a start takes"
    service.run(start_up_s + 60, lambda _: 20.0)
    before = service.late()
    service.run(300, lambda _: 20.0)
    assert service.late() == before, "once they are there, nobody waits"


@pytest.mark.parametrize("queue_limit", [0, 100, 10_000])
def test_overload_is_answered_in_full_however_much_is_refused(queue_limit: int) -> None:
    limits = Limits(1, 400, 10.0)
    service = Service(10, 20.0, start_up_s=30, limits=limits, queue_limit=queue_limit)
    service.run(300, lambda _: 50.0)  # 1000 slots: 100 replicas
    assert service.wanted[60] >= 100
    assert service.refused <= 1.5 * 30 * 50
    assert (service.refused > 0) == (queue_limit < 10_000)


@pytest.mark.parametrize("slots", [30, 100, 300])
def test_a_full_queue_is_answered_however_many_slots_a_replica_has(slots: int) -> None:
    """Requests that take five times as long: a queue of 100 is full, the rest is refused."""
    limits = Limits(1, 100, float(slots))
    service = Service(slots, 1.0, ready=1, limits=limits, queue_limit=100)
    service.run(1200, lambda _: 0.8 * slots)
    assert service.wanted[-1] == 1
    service.service_s = 5.0
    service.run(20, lambda _: 0.8 * slots)
    assert service.wanted[-1] > 1, "at once, long before the mean of 10 minutes tells it"


def foreseen(queue_timeout_s: float, start_up_s: float) -> Decision:
    """Let 20 requests/s of 2 s come, 10 replicas of 4 slots, to 2 replicas; none is starting."""
    history, limits = History(), Limits(1, 5000, 4.0)
    for second in range(1, 609):
        rate, queued = (2, 0) if second < 600 else (20, 16 * (second - 599))
        sample = Sample(
            elapsed_s=1.0,
            arrivals=rate,
            completions=min(rate, 4),
            running=min(8, 2 * rate),
            queued=queued,
            ready=2,
            starting=0,
            slots=4.0,
            start_up_s=start_up_s,
            queue_limit=10_000,
            queue_timeout_s=queue_timeout_s,
        )
        history.add(float(second), sample)
        decision = decide(history, float(second), limits)
        history.standing = decision.standing
    return decision


@pytest.mark.parametrize("timeout_s", [1.0, 30.0, 120.0])
def test_who_will_have_left_before_a_start_is_over_is_not_answered(timeout_s: float) -> None:
    """Each second of the queue's time limit 20 more wait; those before have left."""
    backlog = foreseen(timeout_s, 600.0).backlog
    assert backlog <= foreseen(timeout_s, 600.0).demand + 20.0 * timeout_s + 1e-9
    assert backlog < foreseen(math.inf, 600.0).backlog


def test_who_still_waits_when_a_start_is_over_is_answered() -> None:
    assert foreseen(120.0, 60.0) == foreseen(math.inf, 60.0)


def test_a_queue_is_answered_only_briefly() -> None:
    service = Service(slots=4, service_s=2.0, start_up_s=30, ready=2)
    service.run(600, lambda _: 2.0)
    service.run(120, lambda _: 20.0)
    most = max(service.wanted)
    service.run(300, lambda _: 20.0)
    assert service.wanted[-1] < most, "what cleared the queue is given back"


def test_what_was_needed_is_held_then_let_go() -> None:
    service = Service(slots=4, service_s=2.0, ready=10)
    service.run(1200, lambda _: 20.0)
    held = service.wanted[-1]
    service.run(240, lambda _: 0.0)
    assert service.wanted[-1] >= 10, "it may come again"
    service.run(int(max(WINDOWS_S) + LESS_FOR_S) + 60, lambda _: 0.0)
    assert service.wanted[-1] == 1 < held


def test_traffic_that_comes_again_is_waited_for() -> None:
    """A minute of load every quarter of an hour: after some rounds nobody comes too early."""
    service = Service(slots=4, service_s=2.0, start_up_s=60, ready=1)
    service.run(6 * HOUR, lambda second: 20.0 if second % 900 < 60 else 0.5)
    before = service.late()
    service.run(2 * HOUR, lambda second: 20.0 if second % 900 < 60 else 0.5)
    assert service.late() == before


def test_without_history_it_never_shrinks() -> None:
    service = Service(slots=4, service_s=2.0, ready=12)
    service.run(240, lambda _: 0.0)
    assert set(service.wanted) == {12}, "what runs was needed, as far as anyone knows"


def test_replicas_that_never_come_do_not_raise_the_count_for_ever() -> None:
    service = Service(slots=4, service_s=2.0, ready=2, come=5, limits=Limits(1, 40, 4.0))
    service.run(2 * HOUR, lambda _: 8.0)  # 4 replicas are needed, 5 can come
    assert service.ready >= 4
    assert service.wanted[-1] <= 6
    overloaded = Service(slots=4, service_s=2.0, ready=2, come=3, limits=Limits(1, 40, 4.0))
    overloaded.run(600, lambda _: 8.0)
    assert overloaded.wanted[-1] > 4, "it goes on to ask while a queue stands"


def test_the_bounds_hold_at_once() -> None:
    service = Service(slots=4, service_s=2.0, ready=2)
    service.run(600, lambda _: 20.0)
    service.limits = Limits(1, 3, 4.0)
    service.run(1, lambda _: 20.0)
    assert service.wanted[-1] == 3
    service.limits = Limits(20, 30, 4.0)
    service.run(1, lambda _: 20.0)
    assert service.wanted[-1] == 20


def test_hundreds_of_replicas_do_not_follow_every_request() -> None:
    service = Service(slots=4, service_s=2.0, ready=100, limits=Limits(1, 300, 4.0))
    service.run(3 * HOUR, lambda second: 200.0 + 40.0 * math.sin(second / 300.0))
    changes = [a != b for a, b in pairwise(service.wanted[HOUR:])]
    assert sum(changes) <= 2 * 40, "per hour one for each minute and a half, not one for each wave"
    assert min(service.wanted[HOUR:]) >= 80


def test_a_decision_tells_what_it_was_made_of() -> None:
    service = Service(slots=4, service_s=2.0, ready=1)
    service.run(1200, lambda _: 10.0)
    decision = service.decisions[-1]
    assert decision.demand == pytest.approx(20.0, rel=0.1)
    assert decision.service_s == pytest.approx(2.0, rel=0.1)
    assert decision.lifted == pytest.approx(20.0, rel=0.2)
    assert decision.held >= decision.lifted
    assert decision.peak >= decision.held - 1e-9 and decision.peak_age_s >= 0.0
    assert decision.wanted == decision.standing.wanted >= decision.unbounded


def test_what_only_a_bound_asked_for_goes_with_the_bound() -> None:
    service = Service(slots=4, service_s=2.0, ready=8, limits=Limits(8, 20, 4.0))
    service.history = History(Hold((60.0,)))
    service.run(600, lambda second: 1.0)
    assert service.wanted[-1] == 8
    service.limits = Limits(1, 20, 4.0)
    service.run(2, lambda second: 1.0)
    assert service.wanted[-1] <= 2
