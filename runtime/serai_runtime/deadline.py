"""Cancels requests that take too long, with one timer for all of them.

`asyncio.timeout` makes and cancels a timer for each request, which costs as much as parsing its
JSON; a sweep over the open ones every few milliseconds costs nothing that can be measured.
"""

import asyncio
from typing import Any

from serai_runtime import clock

TICK_S = 0.025


class Deadline:
    """The last moment of one request; `passed` is set before its task is cancelled."""

    __slots__ = ("at_s", "passed", "task")

    def __init__(self, task: "asyncio.Task[Any]", at_s: float) -> None:
        self.task = task
        self.at_s = at_s
        self.passed = False


class Deadlines:
    """The open requests of one event loop."""

    def __init__(self) -> None:
        self._open: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, task: "asyncio.Task[Any]", at_s: float) -> Deadline:
        """Watch a task until `end`; when the time is over it is cancelled, once."""
        deadline = Deadline(task, at_s)
        self._open.add(deadline)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._sweep)
        return deadline

    def end(self, deadline: Deadline) -> None:
        self._open.discard(deadline)

    def _sweep(self) -> None:
        self._timer = None
        if not self._open:
            return
        now_s = clock.now_s()
        for deadline in [one for one in self._open if one.at_s <= now_s]:
            self._open.discard(deadline)
            deadline.passed = True
            deadline.task.cancel()
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._sweep)
