"""The only module that reads a clock."""

import time
from collections.abc import Iterator
from random import Random
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Return monotonic seconds: for windows, deadlines and ages."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970 (UTC): only for showing and storing, never for windows."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The host's clocks."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        import asyncio  # here, for whoever only asks the time: it takes 15 ms

        await asyncio.sleep(seconds)


class SimClock:
    """A clock that moves only when somebody sleeps on it: for simulations and tests."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self._now_s = start_s

    def now(self) -> float:
        return self._now_s

    def wall(self) -> float:
        return 1_700_000_000.0 + self._now_s

    async def sleep(self, seconds: float) -> None:
        import asyncio

        self._now_s += seconds
        await asyncio.sleep(0)


def backoff(rng: Random, *, first_s: float = 0.5, cap_s: float = 30.0) -> Iterator[float]:
    """Yield delays in seconds that double up to a cap, each drawn from its upper half."""
    ceiling = first_s
    while True:
        yield ceiling * rng.uniform(0.5, 1.0)
        ceiling = min(ceiling * 2, cap_s)
