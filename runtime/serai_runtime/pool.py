"""Runs blocking predictors on threads, with a hand-off cheap enough for tiny ones.

The loop wakes once for many finished calls: a worker that finishes while a wake-up is on its way
only appends its result. `asyncio`'s executor wakes the loop for each call and costs about three
times as much.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Pool:
    """A fixed number of daemon threads; a hung call keeps its thread and nothing else."""

    def __init__(self, threads: int, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._waking = False
        self.busy = 0
        """How many threads run a call now, those whose caller has given up included."""
        self._threads = [
            threading.Thread(target=self._work, name=f"predict-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, call: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Return a future of the call's result; cancel it before it starts and it never runs."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put((call, future))
        return future

    def close(self) -> None:
        """Let the threads end once they are idle."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        jobs, done = self._jobs, self._done
        while (job := jobs.get()) is not None:
            call, future = job
            if future.cancelled():
                continue
            self.busy += 1
            try:
                done.append((future, call(), None))
            except BaseException as error:  # noqa: BLE001  # the user's code: the caller decides
                done.append((future, None, error))
            self.busy -= 1
            del call, future, job
            if not self._waking:
                self._waking = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:  # the loop has closed: nobody waits any more
                    return

    def _deliver(self) -> None:
        # Cleared first: what is appended from here on wakes the loop again.
        self._waking = False
        done = self._done
        while done:
            future, result, error = done.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            elif isinstance(error, StopIteration):
                future.set_exception(RuntimeError("predict raised StopIteration"))
            else:
                future.set_exception(error)
