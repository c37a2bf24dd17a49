"""Waiting for a condition with a deadline: the only place in the tests that sleeps."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
PERIOD_S = 0.02


def until(probe: Callable[[], T], within_s: float = 10.0, what: str = "") -> T:
    """Return the first truthy answer of `probe`; fail when there is none in time."""
    deadline_s = time.monotonic() + within_s  # noqa: TID251
    while not (answer := probe()):
        assert time.monotonic() < deadline_s, what or f"not within {within_s} s: {probe}"  # noqa: TID251
        time.sleep(PERIOD_S)  # noqa: TID251
    return answer


async def auntil(
    probe: Callable[[], T | Awaitable[T]], within_s: float = 10.0, what: str = ""
) -> T:
    """Like `until`, for a plain or async probe, without blocking the loop."""
    deadline_s = time.monotonic() + within_s  # noqa: TID251
    while True:
        raw = probe()
        answer: T = await raw if isinstance(raw, Awaitable) else raw
        if answer:
            return answer
        assert time.monotonic() < deadline_s, what or f"not within {within_s} s: {probe}"  # noqa: TID251
        await asyncio.sleep(PERIOD_S)  # noqa: TID251
