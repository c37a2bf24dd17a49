"""What `serai wake` shows of every way in which an API wakes, or does not."""

from http.server import BaseHTTPRequestHandler

import pytest

from serai import wire
from serai.errors import Refused, Unavailable
from serai.http import PROBLEM_TYPE
from serai.operator import Done, Problem
from serai.waking import WakePhase, WakeProgress
from serai_cli.client import Client
from serai_cli.exits import DONE, FAILED, REFUSED, status_of
from serai_cli.targets import Target
from serai_cli.waking import wake
from tests.integration.cli.servers import Answering, sending, server


def step(phase: WakePhase, reason: str = "", eta_s: float | None = None) -> WakeProgress:
    return WakeProgress(api="iris", phase=phase, reason=reason, eta_s=eta_s)


def telling(*steps: WakeProgress, rest: bytes = b"") -> Answering:
    """Take the wish, then tell these steps."""
    lines = b"".join(wire.encode(one) + b"\n" for one in steps) + rest

    def answer(handler: BaseHTTPRequestHandler) -> None:
        wished = handler.command == "POST"
        sending(wire.encode(Done(message="iris is being woken")) if wished else lines)(handler)

    return answer


def woken(answering: Answering) -> int:
    with server(answering) as url:
        return wake(Client(Target(name="lab", url=url, token="t", ca="")), "iris")


def test_each_step_is_a_line_once_and_ready_is_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    asked = step(WakePhase.ASKED, "no node has 1 GPU free", 12.0)
    loading = step(WakePhase.LOADING, eta_s=3.4)
    assert woken(telling(asked, asked, loading, step(WakePhase.READY))) == DONE
    assert capsys.readouterr().out.splitlines() == [
        "iris: asked (no node has 1 GPU free), usually ready in 12 s",
        "iris: loading, usually ready in 3 s",
        "iris is ready",
    ]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (step(WakePhase.FAILED, "iris.v1.2: exit code 3"), "did not wake: iris.v1.2: exit code 3"),
        (step(WakePhase.ASLEEP), "wake it again: `serai wake iris`"),
    ],
)
def test_an_end_without_a_replica_is_a_failure_with_its_reason(
    end: WakeProgress, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert woken(telling(step(WakePhase.ASKED), end)) == FAILED
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rest", "words"),
    [(b"", "no longer leads; `serai wake iris`"), (b"[]\n", "cannot be read")],
)
def test_what_breaks_off_is_no_success(rest: bytes, words: str) -> None:
    with pytest.raises(Unavailable, match=words):
        woken(telling(step(WakePhase.LOADING), rest=rest))


def test_what_may_not_be_woken_is_refused_with_what_to_do() -> None:
    why = "iris is set to 0 replicas; `serai scale iris --auto` lets its policy decide again"
    body = Problem(status=409, code="not_woken", title="Conflict", detail=why)
    with pytest.raises(Refused, match="--auto") as refused:
        woken(sending(wire.encode(body), 409, kind=PROBLEM_TYPE))
    assert status_of(refused.value) == REFUSED
