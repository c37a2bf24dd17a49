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

from serai_runtime.logs import request_id_now

Future = asyncio.Future[Any]
Job = tuple[Callable[..., Any], tuple[Any, ...], Future, str]


class Pool:
    """A fixed number of daemon threads; a hung call keeps its thread and nothing else."""

    def __init__(self, threads: int, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._done: deque[tuple[Future, Any, BaseException | None]] = deque()
        self._waking = False
        self._running: list[Future | None] = [None] * threads
        self.on_abandoned_end: Callable[[], None] = lambda: None
        """Called on the loop when a call has ended for which nobody waited any more."""
        for number in range(threads):
            name = f"predict-{number}"
            threading.Thread(target=self._work, args=(number,), name=name, daemon=True).start()

    def run(self, call: Callable[..., Any], *arguments: Any) -> Future:
        """Return a future of the call's result; cancel it before it starts and it never runs."""
        future: Future = self._loop.create_future()
        self._jobs.put((call, arguments, future, request_id_now.get()))
        return future

    def abandoned(self) -> int:
        """Return how many threads run a call that nobody waits for any more."""
        return sum(1 for future in self._running if future is not None and future.cancelled())

    def close(self) -> None:
        """Let the threads end once they are idle."""
        for _ in self._running:
            self._jobs.put(None)

    def _work(self, number: int) -> None:
        jobs, done, running = self._jobs, self._done, self._running
        while (job := jobs.get()) is not None:
            call, arguments, future, request_id = job
            if future.cancelled():
                continue
            request_id_now.set(request_id)
            running[number] = future
            try:
                result, failure = call(*arguments), None
            except BaseException as error:  # noqa: BLE001  # the user's code: the caller decides
                result, failure = None, error
            running[number] = None
            done.append((future, result, failure))
            # What a thread keeps while it waits for the next call would live as long as the wait.
            del call, arguments, future, job, result, failure
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
            future, result, failure = done.popleft()
            if future.done():
                self.on_abandoned_end()
            elif failure is None:
                future.set_result(result)
            elif isinstance(failure, StopIteration):
                future.set_exception(RuntimeError("predict raised StopIteration"))
            elif isinstance(failure, SystemExit | KeyboardInterrupt):
                future.set_exception(RuntimeError(f"predict tried to end the process: {failure!r}"))
            else:
                future.set_exception(failure)
