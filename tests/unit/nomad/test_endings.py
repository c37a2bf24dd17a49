"""Why replicas have failed, with what their last lines and their limits add."""

from typing import Any

import msgspec
import pytest

from serai.model import Exit, ReplicaState
from serai_scheduler.nomad.endings import in_full
from tests.support.scheduling import replica
from tests.unit.nomad.test_reading import ended

LIMITED = {"AllocatedResources": {"Tasks": {"replica": {"Memory": {"MemoryMB": 64}}}}}
GAVE_UP = (
    '{"at": 1, "event": "predictor cannot be served", "level": "error", "why": "no module x"}',
    '{"at": 1, "event": "worker exited", "level": "error", "why": "exit code 3"}',
)


def told(end: Exit | None, *tail: str, reason: str = "", **allocation: Any) -> str:
    failed = replica("v1", 1, ReplicaState.FAILED, reason=reason or str(end))
    return in_full(msgspec.structs.replace(failed, exit=end), {**LIMITED, **allocation}, tail)


@pytest.mark.parametrize(
    ("end", "tail", "words"),
    [
        (Exit(exit_code=3), ("loading", "no model here", ""), "exit code 3: no model here"),
        (Exit(exit_code=3), (), "exit code 3"),
        (Exit(exit_code=3), GAVE_UP, "no module x"),
        (Exit(exit_code=3), (*GAVE_UP[1:],), "exit code 3"),
        (Exit(signal="SIGSEGV"), ("loading",), "killed by SIGSEGV"),
        (
            Exit(signal="SIGKILL", oom=True),
            ("loading",),
            "killed: out of memory; it may use 64Mi: give it more by compute.mem",
        ),
    ],
)
def test_the_last_line_tells_what_the_exit_does_not(
    end: Exit, tail: tuple[str, ...], words: str
) -> None:
    assert told(end, *tail) == words


def test_a_port_that_is_taken_is_told_with_what_to_do() -> None:
    assert told(Exit(exit_code=1), "OSError: [Errno 98] Address already in use", "bye") == (
        "exit code 1: another program of its node has the port that it wants; let it listen on "
        "$PORT, or deploy again for another port if it does"
    )


def test_what_the_node_could_not_get_is_told_by_its_agent() -> None:
    states = {"prepare": {"State": "dead", "Failed": True, "Events": [ended(1)]}}
    reason = "its node could not get its environment or bundle"
    lines = ("waiting", "the disk is full")
    assert told(None, *lines, reason=reason, TaskStates=states) == f"{reason}: the disk is full"


def test_what_never_ran_has_no_last_line() -> None:
    assert told(None, "of another one", reason="there is no image") == "there is no image"
