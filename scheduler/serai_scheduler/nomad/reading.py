"""From one of Nomad's allocations to the replica that it is: state and reason. Pure."""

import signal
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from serai.model import TERMINAL, Exit, Replica, ReplicaState, Server
from serai_scheduler.nomad.driver_words import in_words, is_progress
from serai_scheduler.nomad.names import JobName, replica_id
from serai_scheduler.nomad.programs import PORT_PREFIX, port_label
from serai_scheduler.nomad.tasks import MAIN_TASK, WAITING_TASK
from serai_scheduler.nomad.text import NANOSECONDS

SHELL_OFFSET = 128
"""Nomad adds it to a signal's number and calls that the exit code, as shells do."""
NO_COMMAND = 127
"""What shells and the init of a container say of a command that they do not find."""
QUIET = (
    *("Received", "Task Setup", "Started", "Terminated", "Restarting", "Not Restarting"),
    *("Killing", "Killed"),
)
"""Events that say nothing beyond the state that they led to."""

Allocation = Mapping[str, Any]
Task = Mapping[str, Any]


def replica_of(
    allocation: Allocation, name: JobName, number: int, wanted: bool, servers: Sequence[Server]
) -> Replica:
    """Return the replica of this number whose newest allocation this is.

    `wanted` says whether its job still has its group: then Nomad gives it another allocation when
    this one is lost or stopped. `servers` are those of its id that pass their checks in Consul;
    those of an earlier allocation are left out by their ports.
    """
    ports = ports_of(allocation)
    servers = [server for server in servers if server.port in ports]
    main = (allocation.get("TaskStates") or {}).get(MAIN_TASK) or {}
    state, reason = _state(allocation, main, wanted, len(servers), len(ports))
    alive = state not in TERMINAL
    draining = not wanted or allocation["DesiredStatus"] != "run"
    ended = seconds_of(main.get("FinishedAt")) or allocation["ModifyTime"] / NANOSECONDS
    return Replica(
        id=replica_id(name, number),
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


def still_ready(replica: Replica) -> Replica:
    """Return a replica that was ready, as ready as long as any of its processes serves."""
    if replica.state is ReplicaState.LOADING and replica.servers:
        return msgspec.structs.replace(replica, state=ReplicaState.READY)
    return replica


def has_left(allocation: Allocation) -> bool:
    """Say whether it is none for its group any more, so that Nomad places another."""
    wanted: str = allocation["DesiredStatus"]
    return wanted != "run" or allocation["ClientStatus"] == "lost"


def ports_of(allocation: Allocation) -> frozenset[int]:
    """Return the ports that its processes serve on; none before it is placed."""
    shared = (allocation.get("AllocatedResources") or {}).get("Shared") or {}
    found = shared.get("Ports") or ()
    return frozenset(port["Value"] for port in found if port["Label"].startswith(PORT_PREFIX))


def first_port(allocation: Allocation) -> Mapping[str, Any] | None:
    """Return the port of its first process as Nomad tells it, None before it is placed."""
    shared = (allocation.get("AllocatedResources") or {}).get("Shared") or {}
    wanted = port_label(0)
    return next((port for port in shared.get("Ports") or () if port["Label"] == wanted), None)


def began_at_s(allocation: Allocation) -> float:
    """Return when its task began to run, or when it was placed."""
    main = (allocation.get("TaskStates") or {}).get(MAIN_TASK) or {}
    return seconds_of(main.get("StartedAt")) or allocation["CreateTime"] / NANOSECONDS


def _state(
    allocation: Allocation, main: Task, wanted: bool, ready: int, processes: int
) -> tuple[ReplicaState, str]:
    client, runs_on = allocation["ClientStatus"], allocation["DesiredStatus"] == "run"
    node = allocation.get("NodeName") or "its node"
    if wanted and has_left(allocation):
        return ReplicaState.PENDING, f"it has to leave {node} and waits for another place"
    if client == "lost":
        return ReplicaState.LOST, f"{node} is gone"
    if client == "unknown":
        return ReplicaState.LOST, f"{node} does not answer"
    if client in ("complete", "failed"):
        return _ended(allocation, main, wanted)
    if not wanted or not runs_on:
        return ReplicaState.DRAINING, "finishing what is in flight"
    if main.get("State") != "running":
        return _before(allocation, main)
    if ready and ready >= processes:
        return ReplicaState.READY, _restarted(main)
    if ready:
        return ReplicaState.LOADING, f"{ready} of {processes} processes ready"
    restarts = main.get("Restarts") or 0
    again = f"started {restarts + 1} times; " if restarts else ""
    return ReplicaState.LOADING, f"{again}its check does not pass yet"


def _restarted(main: Task) -> str:
    """Say how often a task that runs was started again, and why the last time."""
    count, found, moment = main.get("Restarts") or 0, exit_of(main), main.get("LastRestart")
    if not count:
        return ""
    when = f" at {moment[11:19]} UTC" if moment else ""
    return (
        f"restarted {count} {'times' if count > 1 else 'time'}, last{when} ({found or 'no exit'})"
    )


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


def _ended(allocation: Allocation, main: Task, wanted: bool) -> tuple[ReplicaState, str]:
    if not wanted and allocation["ClientStatus"] == "complete":
        found = exit_of(main)
        killed = found is not None and found.signal == "SIGKILL"
        return ReplicaState.STOPPED, "killed: it had not ended in its time" if killed else ""
    if waited_in_vain(allocation):
        return ReplicaState.FAILED, "its node could not get its environment or bundle"
    found = exit_of(main)
    if found is None:
        waiting = (allocation.get("TaskStates") or {}).get(WAITING_TASK) or {}
        told = _why_ended(main) or _why_ended(waiting) or allocation.get("ClientDescription")
        told = told or "it could not start"
        return ReplicaState.FAILED, told
    if found.exit_code == 0:
        return ReplicaState.FAILED, "it ended by itself with exit code 0"
    if found.exit_code == NO_COMMAND:
        return ReplicaState.FAILED, f"{found}: its command, or that one's Python, is not there"
    return ReplicaState.FAILED, str(found)


def waited_in_vain(allocation: Allocation) -> bool:
    """Say whether it ended before the task that serves, for lack of what its node had to get."""
    waiting = (allocation.get("TaskStates") or {}).get(WAITING_TASK) or {}
    return bool(waiting.get("Failed")) and exit_of(waiting) is not None


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
    words = _told_by(task)
    return in_words(words[-1]) if words else ""


def _why_ended(task: Task) -> str:
    """Return the last event that says why; what was under way is told late at times."""
    words = [told for told in _told_by(task) if not is_progress(told)]
    return in_words(words[-1]) if words else _last_words(task)


def _told_by(task: Task) -> list[str]:
    return [event.get("DisplayMessage") or "" for event in _events(task) if _tells(event)]


def _tells(event: Mapping[str, Any]) -> bool:
    return event["Type"] not in QUIET and bool(event.get("DisplayMessage"))


def seconds_of(moment: str | None) -> float | None:
    """Return seconds since 1970; Nomad writes nine digits after the point, or nothing."""
    if not moment:
        return None
    whole, _, _ = moment.partition(".")
    try:
        return datetime.fromisoformat(whole.removesuffix("Z") + "+00:00").timestamp()
    except ValueError:
        return None
