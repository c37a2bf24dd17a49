"""Gathers payloads into batches around one call that takes a list. The decision is in `batch`."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from serai_runtime import clock
from serai_runtime.batch import BatchLimits, batch_size
from serai_runtime.errors import HTTPError, PredictorError

Call = Callable[[list[dict[str, Any]]], Awaitable[Any]]


@dataclass(eq=False)
class _Waiting:
    arguments: dict[str, Any]
    since_s: float
    future: "asyncio.Future[Any]"


class Batcher:
    """`call` gets a list of argument dicts and returns a list of as many results."""

    def __init__(self, call: Call, limits: BatchLimits, on_batch: Callable[[int], None]) -> None:
        self._call = call
        self._limits = limits
        self._on_batch = on_batch
        self._waiting: deque[_Waiting] = deque()
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, arguments: dict[str, Any]) -> Any:
        """Return the result for one payload; a caller that goes away leaves its batch."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(arguments, clock.now_s(), future))
        self._decide()
        return await future

    def _decide(self) -> None:
        while self._waiting:
            if self._waiting[0].future.done():  # its caller has gone
                self._waiting.popleft()
                continue
            waited_s = clock.now_s() - self._waiting[0].since_s
            size = batch_size(len(self._waiting), waited_s, self._running, self._limits)
            if not size:
                self._wait(self._limits.max_wait_s - waited_s)
                return
            self._start([self._waiting.popleft() for _ in range(size)])

    def _wait(self, left_s: float) -> None:
        # With no room to run, the end of a running batch decides again, not a timer.
        if self._timer is None and self._running < self._limits.parallel:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, left_s), self._timed)

    def _timed(self) -> None:
        self._timer = None
        self._decide()

    def _start(self, batch: list[_Waiting]) -> None:
        batch = [one for one in batch if not one.future.done()]
        if not batch:
            return
        self._running += 1
        self._on_batch(len(batch))
        task = asyncio.get_running_loop().create_task(self._run(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: list[_Waiting]) -> None:
        try:
            results = await self._call([one.arguments for one in batch])
            _deliver(batch, results)
        except asyncio.CancelledError:
            # Of its own accord: nobody cancels a batch. Its callers must not wait for ever.
            _fail(batch, PredictorError("predict raised asyncio.CancelledError"))
        except Exception as error:  # noqa: BLE001  # the user's predictor: each caller gets it
            _fail(batch, error)
        finally:
            self._running -= 1
            self._decide()


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for one in batch:
        if not one.future.done():
            one.future.set_exception(error)


def _deliver(batch: list[_Waiting], results: Any) -> None:
    if not isinstance(results, list | tuple) and hasattr(results, "tolist"):
        results = list(results)
    if not isinstance(results, list | tuple) or len(results) != len(batch):
        found = f"{len(results)} results" if isinstance(results, list | tuple) else type(results)
        raise PredictorError(
            f"predict got a batch of {len(batch)} payloads and must return a list of as many "
            f"results; it returned {found}"
        )
    for one, result in zip(batch, results, strict=True):
        if one.future.done():
            continue
        if isinstance(result, HTTPError):
            one.future.set_exception(result)
        else:
            one.future.set_result(result)
