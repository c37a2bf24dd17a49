"""Waiting for a condition with a deadline: the only place in the tests that sleeps."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")
PERIOD_S = 0.02


def until(probe: Callable[[], T], within_s: float = 10.0, what: str | Callable[[], str] = "") -> T:
    """Return the first truthy answer of `probe`; fail when there is none in time.

    `what` is told then; where that is only known in the end, it is called for it.
    """
    deadline_s = time.monotonic() + within_s
    while not (answer := probe()):
        if time.monotonic() >= deadline_s:
            raise AssertionError(_told(what) or f"not within {within_s} s: {probe}")
        time.sleep(PERIOD_S)
    return answer


def remaining(probe: Callable[[], list[T]], within_s: float) -> list[T]:
    """Return nothing as soon as `probe` finds nothing, else what it still finds in the end."""
    deadline_s = time.monotonic() + within_s
    while (found := probe()) and time.monotonic() < deadline_s:
        time.sleep(PERIOD_S)
    return found


def let_pass(seconds: float) -> None:
    """Let time pass where that it does is what is tested: an outage, a pause."""
    time.sleep(max(0.0, seconds))


async def auntil(
    probe: Callable[[], Any], within_s: float = 10.0, what: str | Callable[[], str] = ""
) -> Any:
    """Like `until`, for a plain or async probe, without blocking the loop."""
    deadline_s, late = time.monotonic() + within_s, False
    while True:
        answer = probe()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        assert not late, _told(what) or f"not within {within_s} s: {probe}"
        late = time.monotonic() >= deadline_s  # once more: a stall holds up what is due, too
        await asyncio.sleep(PERIOD_S)


def _told(what: str | Callable[[], str]) -> str:
    return what if isinstance(what, str) else what()
