"""Waiting for a condition with a deadline: the only place in the tests that sleeps."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")
PERIOD_S = 0.02


def until(probe: Callable[[], T], within_s: float = 10.0, what: str = "") -> T:
    """Return the first truthy answer of `probe`; fail when there is none in time."""
    deadline_s = time.monotonic() + within_s
    while not (answer := probe()):
        assert time.monotonic() < deadline_s, what or f"not within {within_s} s: {probe}"
        time.sleep(PERIOD_S)
    return answer


async def auntil(probe: Callable[[], Any], within_s: float = 10.0, what: str = "") -> Any:
    """Like `until`, for a plain or async probe, without blocking the loop."""
    deadline_s = time.monotonic() + within_s
    while True:
        answer = probe()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < deadline_s, what or f"not within {within_s} s: {probe}"
        await asyncio.sleep(PERIOD_S)
