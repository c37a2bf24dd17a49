"""How many requests run at once in a process, and who is next. No clock, no threads."""

import asyncio
from collections import deque

DEFAULT_ASYNC = 100
"""An async predictor mostly waits; this many at once unless told otherwise."""


def default_limit(threads: int, is_async: bool, batch_size: int) -> int:
    """Return the concurrency of a process that was not told one.

    A blocking predictor runs on its threads; a batching one needs a batch that runs and one that
    gathers, or it would never see more than one payload.
    """
    if batch_size:
        return 2 * batch_size * threads
    return DEFAULT_ASYNC if is_async else threads


class Slots:
    """Slots for running requests; the rest wait in the order in which they came.

    `abandoned` counts calls that still run on a thread although nobody waits for them any more
    (timed out, or the client has gone): a slot is free when its thread is, not before.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.busy = 0
        self.abandoned = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """How many run, still run, or wait."""
        return self.busy + self.abandoned + len(self._waiting)

    def try_enter(self) -> bool:
        """Take a slot if one is free and nobody waits for it."""
        if self.busy + self.abandoned < self.limit and not self._waiting:
            self.busy += 1
            return True
        return False

    async def enter(self) -> None:
        """Wait for a slot; a cancelled caller leaves the queue."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the slot was handed over in the same turn of the loop
            raise

    def leave(self) -> None:
        """Give a slot back."""
        self.busy -= 1
        self.admit()

    def admit(self) -> None:
        """Hand free slots to those who wait; called when `abandoned` has sunk, too."""
        while self._waiting and self.busy + self.abandoned < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.busy += 1
                turn.set_result(None)
