"""From Nomad's allocations to replicas: their state, and the reason for it in words. Pure."""

import signal
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from serai.model import TERMINAL, Exit, Replica, ReplicaState, Server
from serai_scheduler.nomad.names import parse_id
from serai_scheduler.nomad.tasks import MAIN_TASK, WAITING_TASK
from serai_scheduler.nomad.text import NANOSECONDS

SHELL_OFFSET = 128
"""Nomad adds it to a signal's number and calls that the exit code, as shells do."""
QUIET = ("Received", "Task Setup", "Started", "Terminated", "Restarting", "Not Restarting")
"""Events that say nothing beyond the state that they led to."""

Allocation = Mapping[str, Any]
Task = Mapping[str, Any]


def replica_of(
    allocation: Allocation, prefix: str, servers: Sequence[Server], processes: int
) -> Replica | None:
    """Return the replica that an allocation is; None for a job that is not ours.

    `servers` are those of it that pass their checks in Consul, `processes` how many there will be.
    """
    name = parse_id(prefix, allocation["JobID"])
    if name is None:
        return None
    main = (allocation.get("TaskStates") or {}).get(MAIN_TASK) or {}
    state, reason = _state(allocation, main, len(servers), processes)
    alive = state not in TERMINAL
    draining = state is ReplicaState.DRAINING
    ended = _seconds(main.get("FinishedAt")) or allocation["ModifyTime"] / NANOSECONDS
    return Replica(
        id=allocation["ID"],
        api=name.api,
        version=name.version,
        node=allocation.get("NodeName") or "",
        state=state,
        reason=reason,
        created_at_s=allocation["CreateTime"] / NANOSECONDS,
        ended_at_s=None if alive else ended,
        exit=None if alive else exit_of(main),
        restarts=main.get("Restarts") or 0,
        servers=tuple(servers) if alive and not draining else (),
    )


def _state(
    allocation: Allocation, main: Task, ready: int, processes: int
) -> tuple[ReplicaState, str]:
    client, wanted = allocation["ClientStatus"], allocation["DesiredStatus"]
    if client == "lost":
        return ReplicaState.LOST, f"its node {allocation.get('NodeName') or ''} is gone"
    if client == "unknown":
        return ReplicaState.LOST, f"its node {allocation.get('NodeName') or ''} does not answer"
    if client in ("complete", "failed"):
        return _ended(allocation, main, wanted)
    if wanted != "run":
        return ReplicaState.DRAINING, "finishing what is in flight"
    if main.get("State") != "running":
        return _before(allocation, main)
    if ready >= processes:
        return ReplicaState.READY, ""
    if ready:
        return ReplicaState.LOADING, f"{ready} of {processes} processes ready"
    restarts = main.get("Restarts") or 0
    again = f"started {restarts + 1} times; " if restarts else ""
    return ReplicaState.LOADING, f"{again}its check does not pass yet"


def _before(allocation: Allocation, main: Task) -> tuple[ReplicaState, str]:
    """Say what goes on before the task that serves runs."""
    states = allocation.get("TaskStates") or {}
    if not states:
        return ReplicaState.PENDING, f"placed on {allocation.get('NodeName') or 'a node'}"
    if (states.get(WAITING_TASK) or {}).get("State") == "running":
        return ReplicaState.PENDING, "waits until its node has its environment and bundle"
    found = exit_of(main)
    if main.get("Restarts") and found is not None:
        return ReplicaState.STARTING, f"it is started again: {found}"
    return ReplicaState.STARTING, _last_words(main) or "starting"


def _ended(allocation: Allocation, main: Task, wanted: str) -> tuple[ReplicaState, str]:
    if wanted != "run" and allocation["ClientStatus"] == "complete":
        found = exit_of(main)
        killed = found is not None and found.signal == "SIGKILL"
        return ReplicaState.STOPPED, "killed: it had not ended in its time" if killed else ""
    waiting = (allocation.get("TaskStates") or {}).get(WAITING_TASK) or {}
    if waiting.get("Failed"):
        return ReplicaState.FAILED, "its node did not get its environment and bundle in time"
    found = exit_of(main)
    if found is None:
        told = _last_words(main) or allocation.get("ClientDescription") or "it could not start"
        return ReplicaState.FAILED, told
    if found.exit_code == 0:
        return ReplicaState.FAILED, "it ended by itself with exit code 0"
    return ReplicaState.FAILED, str(found)


def exit_of(task: Task) -> Exit | None:
    """Return how a task ended last; None for one that never ran to an end."""
    ends = [event for event in _events(task) if event["Type"] == "Terminated"]
    if not ends:
        return None
    details = ends[-1].get("Details") or {}
    code, number = int(details.get("exit_code") or 0), int(details.get("signal") or 0)
    oom = details.get("oom_killed") == "true"
    if not number and code > SHELL_OFFSET and oom:  # dockerd tells no signal
        number = code - SHELL_OFFSET
    if number:
        return Exit(signal=_signal_name(number), oom=oom)
    return Exit(exit_code=code, oom=oom)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _events(task: Task) -> Sequence[Mapping[str, Any]]:
    return task.get("Events") or ()


def _last_words(task: Task) -> str:
    """Return the last event that says more than the state, such as that an image is pulled."""
    words = [event.get("DisplayMessage") or "" for event in _events(task) if _tells(event)]
    return words[-1] if words else ""


def _tells(event: Mapping[str, Any]) -> bool:
    return event["Type"] not in QUIET and bool(event.get("DisplayMessage"))


def _seconds(moment: str | None) -> float | None:
    """Return seconds since 1970; Nomad writes nine digits after the point, or nothing."""
    if not moment:
        return None
    whole, _, _ = moment.partition(".")
    try:
        return datetime.fromisoformat(whole.removesuffix("Z") + "+00:00").timestamp()
    except ValueError:
        return None
