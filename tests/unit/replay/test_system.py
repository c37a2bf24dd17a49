"""The simulated API: who waits, who is refused, what replicas cost."""

from random import Random

import pytest

from serai.routes import HELD_AT_ONCE
from serai_scheduler.replay.system import Load, Room, System

ROOM = Room(slots=1, queue_limit=100, queue_timeout_s=1e9)


def system(load: Load, room: Room = ROOM, ready: int = 1, **options: float) -> System:
    return System(load, room, ready, **options)


def test_who_waits_too_long_is_late() -> None:
    """The second waits for 4 s, the third for 8 s; the fourth finds a free slot."""
    one = system(Load((0.0, 1.0, 2.0, 20.5), (5.0, 5.0, 5.0, 5.0)))
    seen = [one.pass_second() for _ in range(30)]
    assert [second.running for second in seen[:4]] == [1, 1, 1, 1]
    assert [second.queued for second in seen[:4]] == [0, 1, 2, 2]
    assert sum(second.completions for second in seen) == 4
    assert one.finish() == 1


def test_first_come_first_served_over_all_slots() -> None:
    rng = Random(4)
    arrivals = sorted(rng.random() * 300.0 for _ in range(1250))
    services = [rng.expovariate(1.0) for _ in arrivals]
    one = system(Load(arrivals, services), Room(2, 10_000, 1e9), ready=2)
    late = _late_by_hand(arrivals, services, 4, 310)
    for _ in range(310):
        one.pass_second()
    assert one.finish() == late > 0


def _late_by_hand(arrivals: list[float], services: list[float], slots: int, end_s: int) -> int:
    free, late = [0.0] * slots, 0
    for at_s, service_s in zip(arrivals, services, strict=True):
        slot = min(range(slots), key=free.__getitem__)
        starts_s = max(at_s, free[slot])
        free[slot] = starts_s + service_s
        late += starts_s - at_s > 5.0 or starts_s >= end_s
    return late


def test_a_full_queue_refuses_and_a_long_wait_ends() -> None:
    load = Load((0.0, 0.1, 0.2, 0.3), (50.0, 1.0, 1.0, 1.0))
    one = system(load, Room(1, 2, 30.0))
    seen = [one.pass_second() for _ in range(60)]
    assert [seen[0].queued, seen[29].queued, seen[30].queued] == [2, 2, 0]
    assert one.finish() == 3, "one was refused, two gave up"


def test_before_anything_is_ready_as_many_wait_as_a_gateway_holds() -> None:
    crowd = Load((0.5,) * (HELD_AT_ONCE + 5), (0.001,) * (HELD_AT_ONCE + 5))
    one = system(crowd, Room(1, 2, 30.0), ready=0)
    assert one.pass_second().queued == HELD_AT_ONCE
    one.follow(1, 1.0)
    for _ in range(4):
        one.pass_second()
    assert one.finish() == 5, "only what came above that"


def test_what_still_waits_is_late_and_what_came_before_is_not_counted() -> None:
    one = system(Load((0.0, 0.5, 8.5), (100.0, 1.0, 1.0)), counted_from_s=5.0)
    for _ in range(10):
        one.pass_second()
    assert one.finish() == 1


def test_without_a_replica_requests_wait_for_the_first() -> None:
    one = system(Load((0.5,), (1.0,)), Room(1, 10, 1.0), ready=0)
    one.pass_second()
    one.follow(1, 3.0)
    assert (one.starting, one.ready, one.replicas) == (1, 0, 1)
    counts = [one.pass_second().running for _ in range(4)]
    assert counts == [0, 0, 0, 0] and one.finish() == 1, "it waited for 3.5 s, which is too long"


def test_starting_replicas_are_given_up_first_and_ready_ones_drain() -> None:
    one = system(Load((0.0, 0.0), (10.0, 3.0)), ready=2)
    one.pass_second()
    one.follow(4, 30.0)
    one.follow(1, 30.0)
    assert (one.starting, one.ready, one.replicas) == (0, 1, 2)
    for _ in range(10):
        one.pass_second()
    assert one.replicas == 1, "it has drained"


@pytest.mark.parametrize("start_up_s", [0.0, 5.0, 60.0])
def test_a_start_takes_its_time(start_up_s: float) -> None:
    one = system(Load((), ()))
    one.pass_second()
    one.follow(2, start_up_s)
    passed = 0
    while one.ready < 2:
        one.pass_second()
        passed += 1
    assert passed == max(1, start_up_s + 1)
