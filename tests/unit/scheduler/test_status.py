"""States in words."""

import msgspec

from serai.model import ApiState, ReplicaState
from serai_scheduler.record import StoredApi
from serai_scheduler.status import ready_count, state_of
from serai_scheduler.taking import NO_GATEWAY, NOT_HEARD_YET
from tests.support.scheduling import NOW_S, deployed, replica, spec, with_record
from tests.unit.scheduler.test_plan import live, planned


def test_an_update_says_how_far_it_is() -> None:
    _, stored = deployed(None, spec(low=3))
    candidate = stored.record.candidate
    assert candidate is not None
    state, reason = state_of(
        stored.record,
        [
            replica(candidate.version, 1),
            replica(candidate.version, 2, ReplicaState.PENDING, reason="building"),
            replica(candidate.version, 3, ReplicaState.PENDING, reason="building"),
        ],
    )
    assert state is ApiState.UPDATING
    assert "1 of 3 replicas ready" in reason and "2 pending (building)" in reason


def test_live_degraded_error_and_idle() -> None:
    stored, name, ready = live(2)
    assert state_of(stored.record, ready)[0] is ApiState.LIVE
    assert state_of(stored.record, ready[:1])[0] is ApiState.DEGRADED
    failed = replica(name, 3, ReplicaState.FAILED, reason="killed by SIGKILL", ended_at_s=NOW_S)
    state, reason = state_of(stored.record, [failed])
    assert state is ApiState.ERROR and "SIGKILL" in reason
    zero = msgspec.structs.replace(stored.record, replicas=0, spec=spec(low=0))
    assert state_of(zero, [])[0] is ApiState.IDLE


def test_what_no_gateway_has_taken_is_not_live() -> None:
    stored, _, ready = live(2)
    waits = "waiting for gateway one to take the route (last heard 20 s ago)"
    state, reason = state_of(stored.record, ready, waits)
    assert state is ApiState.UPDATING and reason == f"2 of 2 replicas ready; {waits}"
    assert state_of(stored.record, ready, NO_GATEWAY)[0] is ApiState.DEGRADED
    assert state_of(stored.record, ready, NOT_HEARD_YET)[0] is ApiState.LIVE, "a new leader"
    zero = msgspec.structs.replace(stored.record, replicas=0, spec=spec(low=0))
    assert state_of(zero, [], waits)[0] is ApiState.UPDATING


def test_a_live_api_tells_what_is_new_about_its_replicas() -> None:
    stored, name, _ = live(2)
    news = [replica(name, 1), replica(name, 2, reason="restarted (exit code 7)")]
    state, reason = state_of(stored.record, news)
    assert state is ApiState.LIVE
    assert reason == f"all replicas are ready; {news[1].id} restarted (exit code 7)"


def test_a_live_version_that_keeps_ending_is_told() -> None:
    stored, name, ready = live(2)
    ended = [
        replica(name, 8, ReplicaState.FAILED, reason="exit code 1", ended_at_s=NOW_S),
        replica(name, 9, ReplicaState.FAILED, reason="exit code 7", ended_at_s=NOW_S + 5.0),
        replica("v0-old", 1, ReplicaState.FAILED, reason="exit code 2", ended_at_s=NOW_S + 9.0),
    ]
    state, reason = state_of(stored.record, [*ready, *ended])
    assert state is ApiState.LIVE
    assert reason == (
        "all replicas are ready; 2 replicas failed and were replaced, the last at 13:46:45 UTC: "
        "exit code 7"
    )


def test_a_version_that_is_ready_is_watched_before_it_takes_over() -> None:
    stored, _, ready = live(1)
    _, stored = deployed(stored, spec(low=1), bundle="b")
    assert stored.record.candidate is not None
    new = replica(stored.record.candidate.version, 1)
    assert "1 of 1 replicas ready, watched for" in state_of(stored.record, [*ready, new])[1]


def test_an_api_that_never_served_tells_why() -> None:
    _, stored = deployed(None, spec())
    candidate = stored.record.candidate
    assert candidate is not None
    failed = replica(
        candidate.version, 1, ReplicaState.FAILED, reason="no module x", ended_at_s=NOW_S
    )
    record = planned(stored, failed).record
    assert record is not None
    assert state_of(record, [failed]) == (ApiState.ERROR, "no module x")


def test_draining_replicas_are_not_counted_as_ready() -> None:
    stored, _, ready = live(2)
    fewer = with_record(
        msgspec.structs.replace(stored.record, replicas=1, spec=spec(low=1)), stored.versions
    )
    record = planned(fewer, *ready).record
    assert record is not None and ready_count(record, ready) == 1


def test_a_deleted_api_says_what_is_left() -> None:
    stored: StoredApi = live(2)[0]
    record = msgspec.structs.replace(stored.record, deleting_since_s=NOW_S)
    assert state_of(record, [])[0] is ApiState.DELETING
