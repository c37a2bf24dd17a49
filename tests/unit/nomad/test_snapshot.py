"""From what Nomad holds to replicas: which there are, and which allocation tells of each."""

from collections.abc import Mapping
from typing import Any

from serai.model import ReplicaState
from serai_scheduler.nomad.explain import reasons
from serai_scheduler.nomad.names import JobName
from serai_scheduler.nomad.placement import NotPlaced
from serai_scheduler.nomad.rooms import Room
from serai_scheduler.nomad.snapshot import (
    ENDED_KEPT_PER_API,
    NOT_PLACED_YET,
    Held,
    Snapshot,
    failed_numbers,
    held,
    replicas_of,
)
from tests.unit.nomad.test_reading import JOB, NAME, allocation

TASK = {"Name": "replica", "Resources": {"CPU": 500, "MemoryMB": 2048}}


def job(*numbers: int, stopped: bool = False, made: int = 5, name: JobName = NAME) -> Held:
    groups = [{"Name": str(number), "Count": 1, "Tasks": [TASK]} for number in numbers]
    body = {
        "ID": f"serai-{name.api}--{name.version}",
        "JobModifyIndex": 9,
        "CreateIndex": made,
        "SubmitTime": 7 * 10**9,
        "Stop": stopped,
        "TaskGroups": groups,
    }
    return held(body, name)


def of(number: int, index: int = 10, *args: Any, **more: Any) -> dict[str, Any]:
    """Return an allocation of a replica's number that was made at an index."""
    made = allocation(*args, **more)
    return {**made, "ID": f"a{index}", "TaskGroup": str(number), "CreateIndex": index}


def test_what_nobody_has_told_is_said_of_what_runs() -> None:
    snapshot = Snapshot(jobs={JOB: job(1, 2, 3)}, allocations=(of(1), of(2, 11, "failed")))
    seen = replicas_of(snapshot, "serai", (), {})
    told = {one.replica.id[-1]: one.unheard("Consul does not answer").replica for one in seen}
    assert [told[number].unheard for number in "123"] == ["Consul does not answer", "", ""]
    assert told["1"].reason == "whether it is ready is not known: Consul does not answer"
    assert [one.unheard("") for one in seen] == list(seen)


def states(
    jobs: tuple[Held, ...], *allocations: Mapping[str, Any], forgotten: tuple[str, ...] = ()
) -> dict[int, ReplicaState]:
    snapshot = Snapshot({one.body["ID"]: one for one in jobs}, allocations)
    seen = replicas_of(snapshot, "serai", (), {}, forgotten)
    return {int(one.replica.id.rpartition(".")[2]): one.replica.state for one in seen}


def test_a_group_without_an_allocation_waits_for_a_place() -> None:
    snapshot = Snapshot({JOB: job(3)})
    (seen,) = replicas_of(snapshot, "serai", (), {})
    assert seen.replica.id == "iris.v1-0123abcd.3" and seen.waits_for_a_place
    assert (seen.replica.state, seen.replica.reason) == (ReplicaState.PENDING, NOT_PLACED_YET)
    assert (seen.replica.created_at_s, seen.replica.node) == (7.0, "")
    for may_clear in (True, False):
        why = NotPlaced(may_clear=may_clear, reason="full")
        (told,) = replicas_of(snapshot, "serai", (), {"iris.v1-0123abcd.3": why})
        assert (told.replica.reason, told.replica.stuck) == ("full", not may_clear)


def test_the_newest_allocation_tells() -> None:
    lost = of(1, 10, "lost", "stop")
    assert states((job(1),), lost) == {1: ReplicaState.PENDING}
    assert states((job(1),), of(1, 11), lost) == {1: ReplicaState.LOADING}
    failed = of(1, 2, "failed", "run", "dead")
    assert states((job(1, made=1),), failed, lost) == {1: ReplicaState.PENDING}


def test_of_several_the_one_that_is_to_run_tells() -> None:
    ended, ending = of(1, 11, "complete", "stop", "dead"), of(1, 12, "running", "stop")
    assert states((job(1),), of(1, 10), ended, ending) == {1: ReplicaState.LOADING}


def test_what_its_job_does_not_have_any_more_drains() -> None:
    running = (of(1, 10), of(2, 11))
    draining = {1: ReplicaState.LOADING, 2: ReplicaState.DRAINING}
    assert states((job(1),), *running) == draining
    both = {1: ReplicaState.DRAINING, 2: ReplicaState.DRAINING}
    assert states((job(1, 2, stopped=True),), *running) == both
    assert states((), *running) == both, "a job that is gone ends all it had"


def test_ended_ones_are_known_as_long_as_their_job() -> None:
    ended = of(1, 10, "complete", "stop", "dead")
    assert states((job(2),), ended)[1] is ReplicaState.STOPPED
    assert states((job(2),), ended, forgotten=("a10",)) == {2: ReplicaState.PENDING}
    assert states((), ended) == {}
    assert states((job(2, made=20),), ended) == {2: ReplicaState.PENDING}, "made anew since"


def test_the_last_ended_ones_of_each_api_are_kept() -> None:
    many = range(1, ENDED_KEPT_PER_API + 6)
    ended = [of(n, n, "failed", "run", "dead", ModifyTime=n * 10**9) for n in many]
    for one in ended:
        one["TaskStates"]["replica"]["FinishedAt"] = None
    other = JobName(api="text", version="v1-0123abcd")
    theirs = of(99, 99, "complete", "stop", "dead", JobID="serai-text--v1-0123abcd")
    found = states((job(made=1), job(name=other)), *ended, theirs)
    assert sorted(found) == [*many[-ENDED_KEPT_PER_API:], 99]


def test_what_is_not_ours_is_no_replica() -> None:
    assert states((job(1),), of(1, JobID="web"), {**of(1), "TaskGroup": "web"}) == {
        1: ReplicaState.PENDING
    }


def test_failed_ones_whose_groups_are_there_are_found() -> None:
    failed = of(1, 10, "failed", "run", "dead")
    moving = of(2, 11, "failed", "run", "dead", FollowupEvalID="some")
    gone = of(3, 12, "failed", "run", "dead")
    left = of(4, 13, "failed", "stop", "dead")
    snapshot = Snapshot({JOB: job(1, 2, 4, 5)}, (failed, moving, gone, left, of(5, 14)))
    assert failed_numbers(snapshot, "serai") == {JOB: {1}}


def test_the_reason_is_of_the_newest_evaluation_that_failed_it() -> None:
    room = Room(
        node="b", takes=True, cpu_mhz=4000, memory_mib=4096, free_cpu_mhz=4000, free_memory_mib=10
    )
    full = {"DimensionExhausted": {"memory": 1}}
    lacking = {"ConstraintFiltered": {"missing drivers": 1}}
    evaluations: list[dict[str, Any]] = [
        {"ModifyIndex": 5, "FailedTGAllocs": {"1": lacking}},
        {"ModifyIndex": 7, "FailedTGAllocs": None},
        {"ModifyIndex": 6, "FailedTGAllocs": {"1": full, "2": full}},
    ]
    found = reasons(job(1, 2, 3), evaluations, [room], ["iris.v1-0123abcd.1"], 1000)
    assert list(found) == ["iris.v1-0123abcd.1"]
    assert found["iris.v1-0123abcd.1"].reason.startswith(
        "waits for room: asks for 0.5 cores and 2.0Gi"
    )
