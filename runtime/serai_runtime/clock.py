"""The only module of the runtime that reads a clock."""

import asyncio
import time


def now_s() -> float:
    """Return monotonic seconds."""
    return time.monotonic()


def wall_s() -> float:
    """Return seconds since 1970."""
    return time.time()


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


def block(seconds: float) -> None:
    """Sleep in the supervisor, which has no event loop."""
    time.sleep(seconds)
