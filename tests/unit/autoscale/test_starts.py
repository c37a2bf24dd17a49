"""How far starts have come, who is overdue, and what is learned of those that came."""

import msgspec
import pytest

from serai.model import Replica, ReplicaState
from serai_scheduler.autoscale.starts import BEEN_KEPT, PLACING_S, Starts
from tests.support.scheduling import replica

CLASSES = {"node": "h100", "other": "l4"}
COMES: tuple[tuple[float, ReplicaState, str], ...] = (
    (0.0, ReplicaState.PENDING, ""),
    (2.0, ReplicaState.PENDING, "node"),
    (14.0, ReplicaState.STARTING, "node"),
    (15.0, ReplicaState.LOADING, "node"),
    (60.0, ReplicaState.READY, "node"),
)


def one(state: ReplicaState, node: str = "node", number: int = 1) -> Replica:
    return replica("v1", number, state, node=node)


def follow(
    starts: Starts, begin_s: float = 0.0, number: int = 1, node: str = "node", last: int = 5
) -> None:
    """Let a replica start as far as that."""
    for at_s, state, at in COMES[:last]:
        starts.note(begin_s + at_s, (one(state, at and node, number),), CLASSES)


def test_phases_are_told_as_they_come() -> None:
    starts = Starts()
    follow(starts, last=4)
    (progress,) = starts.progress(25.0).values()
    assert progress.took_s == {"placed": 2.0, "environment": 12.0, "process": 1.0, "loaded": 10.0}
    assert progress.left_s == pytest.approx(5.0), "the prior is 30 s"
    partly = msgspec.structs.replace(
        one(ReplicaState.LOADING), servers=one(ReplicaState.READY).servers
    )
    starts.note(30.0, (partly,), CLASSES)
    assert list(starts.progress(31.0)["iris.v1.1"].took_s) == [
        "placed", "environment", "process", "loaded", "ready",
    ]  # fmt: skip


def test_what_is_learned_is_of_the_class_and_of_warm_or_cold() -> None:
    starts = Starts()
    for number in range(1, 4):
        follow(starts, 1000.0 * number, number, node="other" if number == 1 else "node")
    learned = starts.learned
    assert [place.node_class for place in learned.keep(9000.0).places] == ["h100", "h100", "l4"]
    assert {place.cache for place in learned.keep(9000.0).places} == {"cold", "warm"}
    assert starts.usual_s(9000.0) == pytest.approx(60.0)
    starts.note(9000.0, (one(ReplicaState.PENDING),), CLASSES)
    assert starts.progress(9001.0)["iris.v1.1"].cache == "warm"


def test_time_without_room_is_not_learned() -> None:
    starts = Starts()
    starts.note(0.0, (one(ReplicaState.PENDING, ""),), CLASSES)
    starts.note(3600.0, (one(ReplicaState.PENDING),), CLASSES)
    starts.note(3620.0, (one(ReplicaState.READY),), CLASSES)
    ((kept,),) = (place.times for place in starts.learned.keep(3620.0).places)
    assert kept.took_s == 20.0 + PLACING_S


@pytest.mark.parametrize("change", [{"restarts": 1}, {"ready_at_s": 5.0}])
def test_what_was_ready_before_teaches_nothing(change: dict[str, float]) -> None:
    starts = Starts()
    loading = msgspec.structs.replace(one(ReplicaState.LOADING), **change)
    starts.note(0.0, (loading,), CLASSES)
    starts.note(2.0, (msgspec.structs.replace(one(ReplicaState.READY), **change),), CLASSES)
    assert starts.learned.keep(2.0).places == ()


def test_one_that_is_placed_anew_begins_again() -> None:
    starts = Starts()
    follow(starts, last=4)
    starts.note(40.0, (one(ReplicaState.PENDING, "other"),), CLASSES)
    progress = starts.progress(41.0)["iris.v1.1"]
    assert list(progress.took_s) == ["placed", "environment"] and progress.took_s["placed"] == 40.0


def test_a_start_is_overdue_by_what_was_learned() -> None:
    starts = Starts()
    for number in range(1, 5):
        follow(starts, 1000.0 * number, number)
    starts.note(9000.0, (one(ReplicaState.LOADING),), CLASSES)
    young = one(ReplicaState.LOADING, number=2)
    starts.note(9170.0, (one(ReplicaState.LOADING), young), CLASSES)
    assert starts.coming(9170.0, "v1") == (2, 0)
    assert starts.coming(9190.0, "v1") == (1, 1), "three times 60 s"
    assert starts.progress(9190.0)["iris.v1.1"].left_s is None
    assert starts.coming(9190.0, "v2") == (0, 0)


def test_those_that_end_or_are_gone_are_let_go_of() -> None:
    starts = Starts()
    for state in (ReplicaState.FAILED, ReplicaState.DRAINING, ReplicaState.STOPPED):
        starts.note(0.0, (one(ReplicaState.LOADING),), CLASSES)
        starts.note(1.0, (one(state),), CLASSES)
        assert starts.progress(1.0) == {}
    starts.note(2.0, (one(ReplicaState.LOADING),), CLASSES)
    starts.note(3.0, (), CLASSES)
    assert starts.progress(3.0) == {}


def test_only_so_many_nodes_are_remembered() -> None:
    starts = Starts()
    everywhere = [one(ReplicaState.READY, f"node-{number}", number) for number in range(1500)]
    starts.note(0.0, everywhere, CLASSES)
    first, last = one(ReplicaState.PENDING, "node-0", 1), one(ReplicaState.PENDING, "node-1499", 2)
    starts.note(1.0, (first, last), CLASSES)
    told = starts.progress(1.0)
    assert [told[name].cache for name in ("iris.v1.1", "iris.v1.2")] == ["cold", "warm"]
    assert BEEN_KEPT < 1500


def test_when_the_first_will_be_ready_is_told_once_a_start_is_known() -> None:
    starts = Starts()
    assert starts.eta_s(0.0, "v1") is None and starts.learned_s(0.0) is None
    follow(starts, number=1)
    assert starts.learned_s(100.0) == starts.eta_s(100.0, "v1") == starts.usual_s(100.0)
    begins, comes = one(ReplicaState.PENDING, "", 3), one(ReplicaState.STARTING, "node", 2)
    starts.note(100.0, (comes,), CLASSES)
    starts.note(110.0, (comes, begins), CLASSES)
    left = [progress.left_s for progress in starts.progress(111.0).values()]
    assert starts.eta_s(111.0, "v1") == min(left_s for left_s in left if left_s is not None)
    assert starts.eta_s(111.0, "v2") == starts.usual_s(111.0)
    assert starts.eta_s(5000.0, "v1") is None, "it takes far longer than usual"


def test_one_that_waited_for_a_place_starts_from_when_it_has_one() -> None:
    starts = Starts()
    starts.note(0.0, (one(ReplicaState.PENDING, ""),), CLASSES)
    assert starts.coming(200.0, "v1") == (1, 0), "another one would get no place either"
    assert starts.progress(200.0)["iris.v1.1"].left_s is None
    starts.note(200.0, (one(ReplicaState.PENDING),), CLASSES)
    assert starts.coming(201.0, "v1") == (1, 0)
    assert starts.progress(201.0)["iris.v1.1"].left_s == pytest.approx(24.0), "the prior is 30 s"
    assert starts.coming(300.0, "v1") == (0, 1)


def test_a_start_that_is_first_seen_in_its_middle_teaches_nothing() -> None:
    starts, wall_s = Starts(), 5000.0
    late = msgspec.structs.replace(one(ReplicaState.LOADING), created_at_s=wall_s - 1000.0)
    starts.note(0.0, (late,), CLASSES, wall_s)
    assert starts.coming(1.0, "v1") == (0, 1), "it loads for a quarter of an hour"
    starts.note(4.0, (one(ReplicaState.READY),), CLASSES, wall_s + 4.0)
    assert starts.learned_s(4.0) is None
    young = msgspec.structs.replace(one(ReplicaState.STARTING, number=2), created_at_s=wall_s + 4.0)
    starts.note(6.0, (young,), CLASSES, wall_s + 6.0)
    starts.note(20.0, (one(ReplicaState.READY, number=2),), CLASSES, wall_s + 20.0)
    ((kept,),) = (place.times for place in starts.learned.keep(20.0).places)
    assert kept.took_s == 16.0, "from when the engine made it"


@pytest.mark.parametrize("step_s", [0.0, 3600.0, -3600.0])
def test_a_clock_that_is_set_while_a_replica_starts_changes_nothing_of_it(step_s: float) -> None:
    """Set by an hour, it made a start of 20 s one that nobody waits for, and taught nothing."""
    starts, wall_s = Starts(), 5000.0
    starts.note(0.0, (), CLASSES, wall_s)
    begins = msgspec.structs.replace(one(ReplicaState.STARTING), created_at_s=wall_s + 0.2)
    starts.note(1.0, (begins,), CLASSES, wall_s + 1.0 + step_s)
    assert starts.coming(11.0, "v1") == (1, 0)
    assert sum(starts.progress(11.0)["iris.v1.1"].took_s.values()) <= 11.0
    ready = msgspec.structs.replace(
        one(ReplicaState.READY), created_at_s=wall_s + 0.2, ready_at_s=wall_s + 20.5 + step_s
    )
    starts.note(21.0, (ready,), CLASSES, wall_s + 21.0 + step_s)
    ((kept,),) = (place.times for place in starts.learned.keep(21.0).places)
    assert 20.0 <= kept.took_s <= 21.0


@pytest.mark.parametrize("step_s", [0.0, 3600.0, -3600.0])
def test_a_start_between_two_looks_is_learned_once(step_s: float) -> None:
    starts, wall_s = Starts(), 5000.0
    starts.note(0.0, (), CLASSES, wall_s)
    ready = msgspec.structs.replace(
        one(ReplicaState.READY), created_at_s=wall_s + 0.4, ready_at_s=wall_s + 0.9
    )
    for second in range(1, 30):
        starts.note(float(second), (ready,), CLASSES, wall_s + second + step_s)
    ((kept,),) = (place.times for place in starts.learned.keep(30.0).places)
    assert 0.0 <= kept.took_s <= 1.0
    assert starts.learned_s(30.0) is not None


def test_what_is_ready_at_the_first_look_or_once_more_teaches_nothing() -> None:
    starts, wall_s = Starts(), 5000.0
    ready = msgspec.structs.replace(
        one(ReplicaState.READY), created_at_s=wall_s - 1.0, ready_at_s=wall_s - 0.5
    )
    starts.note(0.0, (ready,), CLASSES, wall_s)
    again = msgspec.structs.replace(one(ReplicaState.READY, number=2), restarts=1)
    starts.note(1.0, (ready, again), CLASSES, wall_s + 1.0)
    old = msgspec.structs.replace(one(ReplicaState.READY, number=3), created_at_s=wall_s - 90.0)
    starts.note(90.0, (ready, again, old), CLASSES, wall_s + 90.0)
    assert starts.learned_s(90.0) is None
