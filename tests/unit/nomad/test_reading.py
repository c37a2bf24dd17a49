"""From allocations, as a real Nomad 1.6.1 tells them, to replicas."""

from typing import Any

import msgspec
import pytest

from serai.model import Exit, Replica, ReplicaState
from serai_scheduler.nomad.names import JobName
from serai_scheduler.nomad.reading import replica_of
from tests.unit.edge.values import server

NAME = JobName(api="iris", version="v1-0123abcd")
JOB = "serai-iris--v1-0123abcd"
PORT = 20_000
STARTED = {"Type": "Started", "DisplayMessage": "Task started by client", "Details": {}}


def ended(code: int, signal: int = 0, oom: bool = False) -> dict[str, Any]:
    details = {
        "exit_code": str(code),
        "signal": str(signal),
        "oom_killed": "true" if oom else "false",
    }
    return {"Type": "Terminated", "DisplayMessage": f"Exit Code: {code}", "Details": details}


def allocation(
    client: str = "running",
    wanted: str = "run",
    task: str = "running",
    events: tuple[dict[str, Any], ...] = (STARTED,),
    **more: Any,
) -> dict[str, Any]:
    main = {
        "State": task,
        "Failed": client == "failed",
        "Restarts": 0,
        "StartedAt": "2026-11-26T22:52:54.82219655Z",
        "FinishedAt": "2026-11-26T22:52:55.19518977Z" if task == "dead" else None,
        "Events": list(events),
    }
    return {
        "ID": "alloc-1",
        "JobID": JOB,
        "NodeName": "b",
        "ClientStatus": client,
        "DesiredStatus": wanted,
        "ClientDescription": "",
        "CreateTime": 1795733574634550161,
        "ModifyTime": 1795733575380334500,
        "TaskStates": {"replica": main},
        **more,
    }


def read(found: dict[str, Any], ready: int = 0, processes: int = 1, wanted: bool = True) -> Replica:
    """Read it; `ready` servers of it pass their checks, and one of an allocation before it."""
    servers = [
        msgspec.structs.replace(server(number=number), port=PORT + number)
        for number in (*range(ready), 99)
    ]
    ports = [{"Label": f"http_{one}", "Value": PORT + one} for one in range(processes)]
    other = {"Label": "metrics", "Value": PORT + 50}
    found = {**found, "AllocatedResources": {"Shared": {"Ports": [*ports, other]}}}
    replica = replica_of(found, NAME, 3, wanted, servers)
    assert replica.id == "iris.v1-0123abcd.3"
    return replica


def told(
    found: dict[str, Any], ready: int = 0, processes: int = 1, wanted: bool = True
) -> tuple[ReplicaState, str]:
    replica = read(found, ready, processes, wanted)
    return replica.state, replica.reason


def test_before_it_runs_it_says_what_it_waits_for() -> None:
    placed = allocation(client="pending", TaskStates=None)
    assert told(placed) == (ReplicaState.PENDING, "placed on b")
    preparing = allocation(client="running", task="pending", events=())
    preparing["TaskStates"]["prepare"] = {"State": "running", "Failed": False}
    assert told(preparing)[0] is ReplicaState.PENDING
    assert "environment and bundle" in told(preparing)[1]
    pulling = {"Type": "Driver", "DisplayMessage": "Downloading image", "Details": {}}
    found = allocation(client="pending", task="pending", events=(pulling,))
    assert told(found) == (ReplicaState.STARTING, "its image is being pulled")
    again = allocation(client="pending", task="pending", events=(STARTED, ended(7)))
    again["TaskStates"]["replica"]["Restarts"] = 1
    assert told(again) == (ReplicaState.STARTING, "it is started again: exit code 7")


def test_why_it_failed_is_told_though_its_pull_is_told_later() -> None:
    words = "Failed to pull `r/m:1`: dial tcp 10.0.0.1:443: connect: connection refused"
    failed = {"Type": "Driver Failure", "DisplayMessage": words, "Details": {}}
    late = "Docker image pull progress: Pulled 0/1"
    pulling = {"Type": "Driver", "DisplayMessage": late, "Details": {}}
    found = allocation("failed", task="dead", events=(failed, pulling))
    state, reason = told(found)
    assert state is ReplicaState.FAILED and reason.startswith("the registry of r/m:1 cannot be")
    alone = allocation("failed", task="dead", events=(pulling,))
    assert told(alone) == (ReplicaState.FAILED, "its image is being pulled: Pulled 0/1")


def test_it_is_ready_when_all_its_processes_pass_their_checks() -> None:
    assert told(allocation()) == (ReplicaState.LOADING, "its check does not pass yet")
    some = told(allocation(), ready=1, processes=2)
    assert some == (ReplicaState.LOADING, "1 of 2 processes ready")
    ready = read(allocation(), ready=2, processes=2)
    assert (ready.state, ready.reason, len(ready.servers)) == (ReplicaState.READY, "", 2)
    assert ready.created_at_s == pytest.approx(1795733574.63)


def test_one_that_was_started_again_tells_how_often_and_why() -> None:
    again = allocation(events=(STARTED, ended(7), STARTED))
    task = again["TaskStates"]["replica"]
    task |= {"Restarts": 3, "LastRestart": "2026-11-27T18:02:07.123456789Z"}
    words = "restarted 3 times, last at 18:02:07 UTC (exit code 7)"
    assert told(again, ready=1) == (ReplicaState.READY, words)
    task |= {"Restarts": 1, "LastRestart": None}
    assert told(again, ready=1)[1] == "restarted 1 time, last (exit code 7)"


def test_one_that_ends_is_no_server_any_more() -> None:
    # Its group is gone from the job before Nomad has decided what that means.
    for found in (allocation(), allocation(wanted="stop")):
        leaving = read(found, ready=1, wanted=False)
        assert (leaving.state, leaving.servers) == (ReplicaState.DRAINING, ())
    stopped = allocation("complete", "stop", "dead", (STARTED, ended(0)))
    assert told(stopped, wanted=False) == (ReplicaState.STOPPED, "")
    killed = allocation("complete", "stop", "dead", (STARTED, ended(137, signal=9)))
    assert told(killed, wanted=False) == (
        ReplicaState.STOPPED,
        "killed: it had not ended in its time",
    )
    assert read(stopped, wanted=False).ended_at_s == pytest.approx(1795733575.0)


@pytest.mark.parametrize(
    "left", [allocation(wanted="stop"), allocation("complete", "stop"), allocation("lost", "stop")]
)
def test_one_that_nomad_moves_waits_for_its_next_place(left: dict[str, Any]) -> None:
    assert told(left) == (ReplicaState.PENDING, "it has to leave b and waits for another place")
    assert read(left, ready=1).servers == ()


@pytest.mark.parametrize(
    ("events", "reason", "exit"),
    [
        ((STARTED, ended(7)), "exit code 7", Exit(exit_code=7)),
        ((STARTED, ended(0)), "it ended by itself with exit code 0", Exit(exit_code=0)),
        ((STARTED, ended(137, signal=9)), "killed by SIGKILL", Exit(signal="SIGKILL")),
        (
            (STARTED, ended(137, oom=True)),
            "killed: out of memory",
            Exit(signal="SIGKILL", oom=True),
        ),
        ((STARTED, ended(1, signal=99)), "killed by signal 99", Exit(signal="signal 99")),
        (
            ({"Type": "Driver Failure", "DisplayMessage": "no such image", "Details": {}},),
            "no such image",
            None,
        ),
    ],
)
def test_a_failure_has_its_reason(
    events: tuple[dict[str, Any], ...], reason: str, exit: Exit | None
) -> None:
    for found in (
        read(allocation("failed", "run", "dead", events)),
        read(allocation("failed", "stop", "dead", events), wanted=False),
    ):
        assert (found.state, found.reason, found.exit) == (ReplicaState.FAILED, reason, exit)


def test_a_node_that_did_not_prepare_is_named_as_the_reason() -> None:
    found = allocation("failed", "run", "dead", ())
    found["TaskStates"]["prepare"] = {"State": "dead", "Failed": True, "Events": [ended(1)]}
    assert "could not get its environment or bundle" in told(found)[1]


def test_what_kept_all_of_its_tasks_from_starting_is_the_reason() -> None:
    full = {"Type": "Setup Failure", "DisplayMessage": "failed to setup alloc: no such thing"}
    killing = {"Type": "Killing", "DisplayMessage": "Sent interrupt. Waiting 10m5s"}
    found = allocation("failed", "run", "dead", (full, killing))
    found["TaskStates"]["prepare"] = {"State": "dead", "Failed": True, "Events": [full]}
    assert told(found) == (ReplicaState.FAILED, "failed to setup alloc: no such thing")
    found["TaskStates"]["replica"]["Events"] = []
    assert told(found) == (ReplicaState.FAILED, "failed to setup alloc: no such thing")


def test_a_node_that_is_gone_loses_its_replicas() -> None:
    assert told(allocation("lost", "stop"), wanted=False) == (ReplicaState.LOST, "b is gone")
    assert told(allocation("unknown"))[0] is ReplicaState.LOST
