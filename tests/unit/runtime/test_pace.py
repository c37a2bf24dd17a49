"""Bodies that drip are given up, slow ones that keep coming are not."""

import asyncio

import pytest

from serai.clock import SystemClock
from serai_runtime.errors import BodyTooSlow
from serai_runtime.pace import Pace, kept_up


class Counted:
    """A stream of which so many bytes have come."""

    total_bytes = 0


async def test_a_body_that_drips_is_given_up() -> None:
    body = Counted()
    with pytest.raises(BodyTooSlow, match=r"less than 10 bytes in 0\.01 s"):
        async with kept_up(body, Pace(period_s=0.01, least_bytes=10)):
            body.total_bytes = 9
            await asyncio.Event().wait()


async def test_a_body_that_keeps_coming_is_waited_for() -> None:
    body = Counted()
    async with kept_up(body, Pace(period_s=0.001, least_bytes=10)):
        for _ in range(30):
            body.total_bytes += 1000
            await SystemClock().sleep(0.0005)


async def test_others_that_cancel_are_not_taken_for_it() -> None:
    reading = asyncio.Event()

    async def read() -> None:
        async with kept_up(Counted()):
            reading.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
