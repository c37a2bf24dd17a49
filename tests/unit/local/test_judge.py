"""States and reasons that a replica's parts add up to."""

from dataclasses import replace

from serai.model import Exit, ReplicaState
from serai.readiness import Verdict
from serai_agent.local.folder import (
    KeeperState,
    RuntimeExit,
    RuntimeFailure,
    RuntimeProcess,
    RuntimeStatus,
)
from serai_agent.local.health import Health
from serai_agent.local.judge import End, Facts, Step, end_of, loads, serves, state_of

UP = Health(up=True, was_up=True, passed=1, last=Verdict.READY)
WAITS = Health(failed=1, last=Verdict.REFUSED, said="nobody listens yet")
ANSWERS = Health(failed=1, last=Verdict.NOT_READY, said="GET /readyz answers 503")


def facts(
    *health: Health,
    step: Step | None = None,
    phase: str = "",
    stopping: bool = False,
    was_ready: bool = False,
) -> Facts:
    status = RuntimeStatus(processes=(RuntimeProcess(index=0, phase=phase),)) if phase else None
    return Facts(
        step=step,
        health=health,
        status=status,
        stopping=stopping,
        was_ready=was_ready,
        now_s=112.4,
    )


def test_while_it_is_prepared_it_is_pending_and_says_for_how_long() -> None:
    waiting = facts(step=Step("building the environment", 100.0))
    assert state_of(waiting) == (ReplicaState.PENDING, "building the environment, 12 s so far")
    assert state_of(facts(step=Step("fetching the bundle", 112.0)))[1] == "fetching the bundle"


def test_its_states_follow_its_answers() -> None:
    assert state_of(facts(WAITS)) == (ReplicaState.STARTING, "nobody listens yet")
    assert state_of(facts(ANSWERS)) == (ReplicaState.LOADING, "GET /readyz answers 503")
    assert state_of(facts(WAITS, phase="importing")) == (
        ReplicaState.LOADING,
        "the predictor is importing",
    )
    assert state_of(facts(UP)) == (ReplicaState.READY, "")
    assert state_of(facts(UP, WAITS)) == (ReplicaState.LOADING, "1 of 2 processes ready")
    back = facts(UP, WAITS, was_ready=True)
    assert state_of(back) == (ReplicaState.READY, "1 of 2 processes ready")
    assert state_of(facts(UP, stopping=True))[0] is ReplicaState.DRAINING


def test_a_server_that_answers_before_all_containers_run_makes_nothing_ready() -> None:
    """It is not listed yet: what is ready and lists none would take traffic to nowhere."""
    assert state_of(facts(UP, phase="starting")) == (ReplicaState.STARTING, "")
    assert state_of(facts(UP, phase="ready")) == (ReplicaState.READY, "")
    again = state_of(facts(UP, phase="ended", was_ready=True))
    assert again == (ReplicaState.LOADING, "not ready any more: ended")


def test_a_replica_that_serves_again_tells_for_a_while_how_its_process_ended() -> None:
    ends = (
        None,
        RuntimeExit(why="exit code 7", at=1000.0),
        RuntimeExit(why="killed: out of memory", at=1200.0),
    )
    processes = tuple(RuntimeProcess(index=n, last_exit=end) for n, end in enumerate(ends))
    found = replace(facts(UP, UP, UP), status=RuntimeStatus(processes=processes))
    now = state_of(replace(found, wall_s=1300.0))
    assert now == (ReplicaState.READY, "restarted (killed: out of memory)")
    assert state_of(replace(found, wall_s=1900.0)) == (ReplicaState.READY, "")


def test_what_was_ready_once_says_that_it_is_not_any_more() -> None:
    state, reason = state_of(facts(WAITS, was_ready=True))
    assert state is ReplicaState.LOADING and "not ready any more" in reason


def test_the_runtime_has_a_say_in_which_process_serves() -> None:
    status = RuntimeStatus(
        processes=(
            RuntimeProcess(index=0, phase="ready"),
            RuntimeProcess(index=1, phase="ended"),
        )
    )
    assert serves(status, 0) and not serves(status, 1)
    assert serves(None, 1)


def test_the_runtime_tells_which_process_loads() -> None:
    phases = ("starting", "importing", "loading", "ready")
    processes = tuple(RuntimeProcess(index=n, phase=phase) for n, phase in enumerate(phases))
    status = RuntimeStatus(processes=processes)
    assert [loads(status, index) for index in range(5)] == [False, True, True, False, False]
    assert not loads(None, 0)


def ended(**changes: object) -> KeeperState:
    return KeeperState(keeper_pid=1, ended_at_s=5.0, **changes)  # type: ignore[arg-type]


def test_ends() -> None:
    def end(keeper: KeeperState | None, stop_asked: bool = False) -> End:
        return end_of(keeper, None, stop_asked=stop_asked, grace_s=3.0)

    assert end(ended(exit_code=7)) == End(ReplicaState.FAILED, "exit code 7", Exit(exit_code=7))
    assert end(ended(exit_code=0)).reason == "it ended by itself with exit code 0"
    assert end(ended(signal="SIGKILL", oom=True)).reason == "killed: out of memory"
    assert end(ended(exit_code=0), True) == End(ReplicaState.STOPPED, "", Exit(exit_code=0))
    killed = end(ended(signal="SIGKILL", killed=True, stop_asked=True), True)
    assert killed.state is ReplicaState.STOPPED and "3 s after SIGTERM" in killed.reason
    assert end(KeeperState(keeper_pid=1)).state is ReplicaState.FAILED
    assert end(None, True).state is ReplicaState.STOPPED


def test_the_runtimes_own_reason_is_told() -> None:
    status = RuntimeStatus(failure=RuntimeFailure(reason="no class Predictor"))
    found = end_of(ended(exit_code=3), status, stop_asked=False, grace_s=0.0)
    assert found.reason == "no class Predictor"
