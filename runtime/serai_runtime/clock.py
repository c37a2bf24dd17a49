"""The only module of the runtime that reads a clock."""

import time

now_s = time.monotonic
"""Return monotonic seconds; not wrapped, since it is called twice for each request."""

wall_s = time.time
"""Return seconds since 1970."""


async def sleep(seconds: float) -> None:
    """Sleep in a worker; the supervisor, which has no use for asyncio, does not import it."""
    import asyncio

    await asyncio.sleep(seconds)


def block(seconds: float) -> None:
    """Sleep in the supervisor, which has no event loop."""
    time.sleep(seconds)
