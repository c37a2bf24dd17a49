"""Bodies that drip are given up, slow ones that keep coming are not."""

import asyncio

import pytest

from serai_runtime.errors import BodyTooSlow
from serai_runtime.pace import Pace, kept_up
from tests.support.wait import auntil


class Counted:
    """A stream of which so many bytes have come."""

    total_bytes = 0


async def test_a_body_that_drips_is_given_up() -> None:
    body = Counted()
    with pytest.raises(BodyTooSlow, match=r"less than 10 bytes in 0\.01 s"):
        async with kept_up(body, Pace(period_s=0.01, least_bytes=10)):
            body.total_bytes = 9
            await asyncio.Event().wait()


class Growing:
    """A stream of which some more has come whenever somebody looks."""

    def __init__(self) -> None:
        self.looks = 0

    @property
    def total_bytes(self) -> int:
        self.looks += 1
        return 10 * self.looks


async def test_a_body_that_keeps_coming_is_waited_for() -> None:
    body = Growing()
    async with kept_up(body, Pace(period_s=0.001, least_bytes=10)):
        await auntil(lambda: body.looks > 20)


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
