"""What every long-lived loop runs under: it keeps time, and one loop's fault stays its own.

A failed loop is logged with its trace, counted, and started again after a growing delay, while its
neighbours go on. A broken invariant (`AssertionError`) is not survived: the process ends, to be
started again from what is stored.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from types import TracebackType
from typing import NoReturn, Protocol, Self

from serai.clock import Clock, backoff
from serai.errors import Unavailable

_log = logging.getLogger(__name__)

Run = Callable[[], Awaitable[None]]
"""A loop: it runs until it is cancelled or fails."""

FUZZ = 1e-9
"""What rounding may add to a number of periods without making it another tick."""


class LoopWatcher(Protocol):
    """Who is told how the loops do (`serai.metrics.LoopMetrics`)."""

    def late(self, loop: str, late_s: float, missed: int) -> None: ...

    def restarted(self, loop: str) -> None: ...


class Unwatched:
    """A watcher that keeps nothing."""

    def late(self, loop: str, late_s: float, missed: int) -> None:
        return None

    def restarted(self, loop: str) -> None:
        return None


class StepTooSlow(Unavailable):
    """A step of a periodic loop passed its deadline and was cancelled."""


@dataclass(frozen=True)
class RestartPolicy:
    """How a failed loop is started again; all times in seconds.

    Delays grow from `first_s` to `cap_s`, and anew after a run of at least `calm_s`. An error of a
    `fatal` type, alone or within a group, is not survived.
    """

    first_s: float = 0.5
    cap_s: float = 30.0
    calm_s: float = 60.0
    fatal: tuple[type[Exception], ...] = (AssertionError,)


def next_tick(start_s: float, period_s: float, tick: int, now_s: float) -> tuple[int, int]:
    """Return the number of the next tick after `tick`, and how many were missed before it."""
    earliest = math.ceil((now_s - start_s) / period_s - FUZZ)
    following = max(tick + 1, earliest)
    return following, following - tick - 1


def _ignore(late_s: float, missed: int) -> None:
    return None


async def every(
    clock: Clock,
    period_s: float,
    step: Run,
    on_late: Callable[[float, int], None] = _ignore,
    deadline_s: float | None = None,
) -> NoReturn:
    """Run `step` at start + n * `period_s`, for ever; a step's error ends the loop.

    Ticks that pass during a step are skipped; `on_late` is told before each step how many seconds
    late it begins and how many were skipped. StepTooSlow after `deadline_s` (default: ten
    periods, at least 10 s).
    """
    limit_s = max(10.0, 10 * period_s) if deadline_s is None else deadline_s
    start_s, tick, missed = clock.now(), 0, 0
    while True:
        on_late(max(0.0, clock.now() - (start_s + tick * period_s)), missed)
        await _bounded(step, limit_s)
        tick, missed = next_tick(start_s, period_s, tick, clock.now())
        await clock.sleep(max(0.0, start_s + tick * period_s - clock.now()))


async def _bounded(step: Run, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s) as limit:
            await step()
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StepTooSlow(f"a step was cancelled after {limit_s:g} s") from error


async def supervise(
    name: str,
    run: Run,
    clock: Clock,
    rng: Random,
    watcher: LoopWatcher | None = None,
    policy: RestartPolicy = RestartPolicy(),
) -> NoReturn:
    """Keep the loop `run` going until cancelled; raise only what the policy calls fatal."""
    watcher = watcher or Unwatched()
    delays = backoff(rng, first_s=policy.first_s, cap_s=policy.cap_s)
    while True:
        began_s = clock.now()
        error = await _outcome(run, policy)
        if clock.now() - began_s >= policy.calm_s:
            delays = backoff(rng, first_s=policy.first_s, cap_s=policy.cap_s)
        delay_s = next(delays)
        facts = {"loop": name, "why": str(error) or repr(error), "restart_in_s": round(delay_s, 3)}
        _log.error("loop failed", exc_info=error, extra=facts)
        watcher.restarted(name)
        await clock.sleep(delay_s)


async def _outcome(run: Run, policy: RestartPolicy) -> BaseException:
    """Run once and return why it ended; let a fatal error and a real cancellation pass."""
    try:
        await run()
    except asyncio.CancelledError as error:
        # An awaited future that somebody else cancelled looks like our own end, and a task group
        # would drop the loop without a word; only a cancellation of this very task is meant.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return error
    except Exception as error:  # the boundary of long-lived loops: any fault stays its own
        if _is_fatal(error, policy.fatal):
            raise
        return error
    return Unavailable("the loop ended by itself")


def _is_fatal(error: Exception, fatal: tuple[type[Exception], ...]) -> bool:
    if isinstance(error, ExceptionGroup):
        return error.subgroup(fatal) is not None
    return isinstance(error, fatal)


class Supervisor:
    """Runs named loops side by side.

    `async with Supervisor(...) as loops: loops.start("report", run); await stop.wait()`. Leaving
    the block cancels the loops and waits for them. A fatal error cancels them and the block, and
    is raised out of it as it is.
    """

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        watcher: LoopWatcher | None = None,
        policy: RestartPolicy = RestartPolicy(),
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._watcher = watcher or Unwatched()
        self._policy = policy
        self._group = asyncio.TaskGroup()
        self._tasks: dict[str, asyncio.Task[NoReturn]] = {}

    def start(self, name: str, run: Run) -> None:
        """Start a loop; ValueError when one of this name is running."""
        if name in self._tasks and not self._tasks[name].done():
            raise ValueError(f"a loop named {name!r} is running")
        loop = supervise(name, run, self._clock, self._rng, self._watcher, self._policy)
        self._tasks[name] = self._group.create_task(loop, name=name)

    def start_periodic(
        self, name: str, period_s: float, step: Run, deadline_s: float | None = None
    ) -> None:
        """Start a loop that runs `step` every `period_s` seconds, its lateness watched."""

        async def run() -> None:
            await every(self._clock, period_s, step, self.lateness(name), deadline_s)

        self.start(name, run)

    def lateness(self, name: str) -> Callable[[float, int], None]:
        """Return what a loop that calls `every` itself gives as `on_late`."""
        return partial(self._watcher.late, name)

    async def stop(self, name: str) -> None:
        """Cancel one loop and wait until it has ended; an unknown name is no error."""
        if task := self._tasks.pop(name, None):
            task.cancel()
            await asyncio.wait({task})

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the loops that run, sorted."""
        return tuple(sorted(name for name, task in self._tasks.items() if not task.done()))

    async def run(self, loops: Mapping[str, Run]) -> NoReturn:
        """Run these loops until cancelled, or until one fails fatally."""
        async with self:
            for name, run in loops.items():
                self.start(name, run)
            await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable: the future above has no result")

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if len(group.exceptions) > 1:
                raise
            # One fault needs no wrapping: the caller sees what the loop, or its own block, raised.
            only = group.exceptions[0]
            raise only from only.__cause__
