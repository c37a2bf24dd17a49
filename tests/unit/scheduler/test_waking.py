"""Who may be woken, and what is told of it."""

import msgspec
import pytest

from serai.model import ReplicaState
from serai.waking import WakePhase
from serai_scheduler.record import ApiRecord
from serai_scheduler.waking import Waiting, progress, why_not
from tests.support.scheduling import deployed, replica, spec


def stable(**changes: object) -> ApiRecord:
    _, stored = deployed(None, spec(low=0))
    candidate = stored.record.candidate
    assert candidate is not None
    return msgspec.structs.replace(
        stored.record, stable=candidate.version, candidate=None, replicas=0, **changes
    )


def test_what_sleeps_may_be_woken_and_a_set_zero_may_not() -> None:
    assert why_not(stable(), 10) == ""
    assert "serai scale iris --auto" in why_not(stable(pinned=0), 10)
    assert "bounds end at 0" in why_not(stable(), 0)
    assert "no version that serves" in why_not(msgspec.structs.replace(stable(), stable=""), 10)


@pytest.mark.parametrize(
    ("state", "node", "reason", "phase"),
    [
        (ReplicaState.PENDING, "", "full", WakePhase.ASKED),
        (ReplicaState.PENDING, "a", "waits for its environment", WakePhase.ENVIRONMENT),
        (ReplicaState.STARTING, "a", "", WakePhase.PROCESS),
        (ReplicaState.LOADING, "a", "", WakePhase.LOADING),
        (ReplicaState.READY, "a", "", WakePhase.READY),
        (ReplicaState.FAILED, "a", "exit code 1", WakePhase.FAILED),
    ],
)
def test_each_state_is_a_phase(
    state: ReplicaState, node: str, reason: str, phase: WakePhase
) -> None:
    record = stable()
    one = replica(record.stable, 1, state, reason=reason, node=node)
    now = progress(record, 10, [one], frozenset(), Waiting(True, 6.0))
    assert now.phase is phase
    assert phase is WakePhase.READY or reason in now.reason
    if phase not in (WakePhase.READY, WakePhase.FAILED):
        assert now.eta_s == 6.0
    if phase is WakePhase.FAILED:  # one that failed before does not end it
        again = progress(record, 10, [one], frozenset({one.id}), Waiting(True, None))
        assert (again.phase, again.eta_s) == (WakePhase.ASKED, None)


def test_it_ends_once_nobody_is_taken_to_wait() -> None:
    now = progress(stable(), 10, [], frozenset(), Waiting(False, 10.0))
    assert now.phase is WakePhase.FAILED and "in time" in now.reason


def test_what_nobody_waits_for_sleeps() -> None:
    record = stable()
    assert progress(record, 10, [], frozenset(), Waiting(None, 9.0)).phase is WakePhase.ASLEEP
    coming = replica(record.stable, 1, ReplicaState.LOADING, node="a")
    now = progress(record, 10, [coming], frozenset(), Waiting(None, 9.0))
    assert (now.phase, now.eta_s) == (WakePhase.LOADING, 9.0)


def test_what_is_deleted_or_set_to_zero_meanwhile_ends_it() -> None:
    for record, why in ((stable(deleting_since_s=1.0), "deleted"), (stable(pinned=0), "--auto")):
        now = progress(record, 10, [], frozenset(), Waiting(True, None))
        assert now.phase is WakePhase.FAILED and why in now.reason
