"""What a replica's parts add up to: its state and the reason for it. Pure."""

from dataclasses import dataclass

from serai.model import Exit, ReplicaState
from serai.readiness import Verdict
from serai_agent.local.folder import KeeperState, RuntimeStatus
from serai_agent.local.health import Health

LOADING_PHASES = ("importing", "loading")
NEWS_S = 600.0
"""How long a replica that serves again tells how its process ended."""


@dataclass(frozen=True)
class Step:
    """What is being done before a replica can be started, and since when (monotonic seconds)."""

    text: str
    since_s: float


@dataclass(frozen=True)
class Facts:
    """One replica at one moment; `step` is None once it has been started."""

    step: Step | None
    health: tuple[Health, ...]
    status: RuntimeStatus | None
    stopping: bool
    was_ready: bool
    now_s: float
    wall_s: float = 0.0


def state_of(facts: Facts) -> tuple[ReplicaState, str]:
    """Return the state of a replica that has not ended, with the reason in plain words."""
    if facts.stopping:
        return ReplicaState.DRAINING, "finishing what is in flight"
    if facts.step is not None:
        waited_s = facts.now_s - facts.step.since_s
        so_far = f", {waited_s:.0f} s so far" if waited_s >= 1 else ""
        return ReplicaState.PENDING, facts.step.text + so_far
    up = sum(health.up and serves(facts.status, index) for index, health in enumerate(facts.health))
    if up and (facts.was_ready or up == len(facts.health)):
        partly = f"{up} of {len(facts.health)} processes ready" if up < len(facts.health) else ""
        told = (partly, _last_end(facts.status, facts.wall_s))
        return ReplicaState.READY, "; ".join(part for part in told if part)
    if up:  # the other processes still load: it would serve with a part of what it is given
        return ReplicaState.LOADING, f"{up} of {len(facts.health)} processes ready"
    phase = _phase(facts.status, 0)
    if phase in LOADING_PHASES:
        return ReplicaState.LOADING, f"the predictor is {phase}"
    if phase.startswith("pulling "):
        return ReplicaState.STARTING, phase
    heard = any(h.last in (Verdict.NOT_READY, Verdict.SILENT, Verdict.CLOSED) for h in facts.health)
    said = next((health.said for health in facts.health if health.said), "")
    if facts.was_ready:
        return ReplicaState.LOADING, f"not ready any more: {said or phase or 'it restarts'}"
    return (ReplicaState.LOADING if heard else ReplicaState.STARTING), said


def _last_end(status: RuntimeStatus | None, wall_s: float) -> str:
    """Say how a process ended last that was started again in place, while that is news."""
    processes = status.processes if status is not None else ()
    ends = [process.last_exit for process in processes if process.last_exit is not None]
    newest = max(ends, key=lambda end: end.at, default=None)
    if newest is None or wall_s - newest.at > NEWS_S:
        return ""
    return f"restarted ({newest.why})"


def _phase(status: RuntimeStatus | None, index: int) -> str:
    """Return what the runtime says one process does; nothing where there is no runtime."""
    if status is None or index >= len(status.processes):
        return ""
    return status.processes[index].phase


def serves(status: RuntimeStatus | None, index: int) -> bool:
    """Say whether the runtime itself calls a process ready; yes where there is no runtime."""
    return _phase(status, index) in ("", "ready")


def loads(status: RuntimeStatus | None, index: int) -> bool:
    """Say whether the runtime tells that a process loads its predictor."""
    return _phase(status, index) in LOADING_PHASES


@dataclass(frozen=True)
class End:
    """How a replica ended."""

    state: ReplicaState
    reason: str
    exit: Exit | None


def end_of(
    keeper: KeeperState | None, status: RuntimeStatus | None, *, stop_asked: bool, grace_s: float
) -> End:
    """Return what to call the end of a replica whose keeper is gone."""
    if keeper is None or keeper.ended_at_s is None:
        state = ReplicaState.STOPPED if stop_asked else ReplicaState.FAILED
        why = "its keeper process was killed or the machine went down; what was left was ended"
        return End(state, why, None)
    exit = Exit(exit_code=keeper.exit_code, signal=keeper.signal, oom=keeper.oom)
    if stop_asked or keeper.stop_asked:
        why = f"killed: it had not ended {grace_s:g} s after SIGTERM" if keeper.killed else ""
        return End(ReplicaState.STOPPED, why, exit)
    if status is not None and status.failure is not None and status.failure.reason:
        return End(ReplicaState.FAILED, status.failure.reason, exit)
    if exit.exit_code == 0:
        return End(ReplicaState.FAILED, "it ended by itself with exit code 0", exit)
    return End(ReplicaState.FAILED, str(exit), exit)
