"""How fast a body has to come: one that drips would keep its place for as long as it likes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from serai_runtime.errors import BodyTooSlow


@dataclass(frozen=True)
class Pace:
    """In each period at least this many bytes come, or the body's end."""

    period_s: float
    least_bytes: int


PACE = Pace(period_s=30.0, least_bytes=256 * 1024)


class Stream(Protocol):
    """What counts the bytes that came; aiohttp's StreamReader does."""

    @property
    def total_bytes(self) -> int: ...


@asynccontextmanager
async def kept_up(stream: Stream, pace: Pace = PACE) -> AsyncIterator[None]:
    """End what reads a body that comes more slowly; BodyTooSlow says so."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as limit:
            timers: list[asyncio.TimerHandle] = []

            def look(before_bytes: int) -> None:
                if stream.total_bytes - before_bytes < pace.least_bytes:
                    limit.reschedule(loop.time())
                else:
                    timers[:] = [loop.call_later(pace.period_s, look, stream.total_bytes)]

            timers.append(loop.call_later(pace.period_s, look, 0))
            try:
                yield
            finally:
                timers[0].cancel()
    except TimeoutError as error:
        raise BodyTooSlow(
            f"the body comes too slowly: less than {pace.least_bytes} bytes in {pace.period_s:g} s"
        ) from error
