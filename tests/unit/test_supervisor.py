"""Loops that keep time, fail alone and are started again."""

import asyncio
import itertools
import logging
from random import Random

import pytest

from serai.clock import SimClock
from serai.errors import Unavailable
from serai.supervisor import (
    RestartPolicy,
    Run,
    StepTooSlow,
    Supervisor,
    every,
    next_tick,
    supervise,
)
from tests.support.wait import auntil


class Kept:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.lateness: list[tuple[str, float, int]] = []
        self.restarts: list[str] = []

    def late(self, loop: str, late_s: float, missed: int) -> None:
        self.lateness.append((loop, late_s, missed))

    def restarted(self, loop: str) -> None:
        self.restarts.append(loop)


class Enough(Exception):
    """A test has seen what it wanted."""


FATAL = RestartPolicy(fatal=(Enough, AssertionError))


@pytest.mark.parametrize(
    ("tick", "now_s", "expected"),
    [
        (0, 100.0, (1, 0)),
        (0, 100.9, (1, 0)),
        (0, 101.0, (1, 0)),
        (0, 101.1, (2, 1)),
        (4, 109.5, (10, 5)),
        (4, 50.0, (5, 0)),
    ],
)
def test_next_tick(tick: int, now_s: float, expected: tuple[int, int]) -> None:
    assert next_tick(100.0, 1.0, tick, now_s) == expected


async def test_ticks_stay_on_the_grid_whatever_a_step_takes() -> None:
    clock, begins_s = SimClock(0.0), list[float]()

    async def step() -> None:
        begins_s.append(clock.now())
        if len(begins_s) == 5:
            raise Enough
        await clock.sleep(0.7)

    with pytest.raises(Enough):
        await every(clock, 1.0, step)
    assert begins_s == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0])


async def test_a_thousand_ticks_of_a_tenth_neither_drift_nor_miss() -> None:
    clock, begins_s, missed = SimClock(0.0), list[float](), list[int]()

    async def step() -> None:
        begins_s.append(clock.now())
        if len(begins_s) == 1001:
            raise Enough

    with pytest.raises(Enough):
        await every(clock, 0.1, step, lambda _, count: missed.append(count))
    assert begins_s[-1] == pytest.approx(100.0, abs=1e-9)
    assert sum(missed) == 0


async def test_ticks_during_a_long_step_are_skipped_counted_and_lateness_told() -> None:
    clock, told, durations_s = SimClock(0.0), list[tuple[float, int]](), iter([0.2, 2.5, 0.1])

    async def step() -> None:
        duration_s = next(durations_s, None)
        if duration_s is None:
            raise Enough
        await clock.sleep(duration_s)

    with pytest.raises(Enough):
        await every(clock, 1.0, step, lambda late_s, missed: told.append((late_s, missed)))
    assert told == [(0.0, 0), (0.0, 0), (0.0, 2), (0.0, 0)]


async def test_a_step_that_hangs_is_cancelled_at_its_deadline() -> None:
    async def step() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StepTooSlow, match=r"after 0\.01 s"):
        await every(SimClock(), 1.0, step, deadline_s=0.01)


async def test_a_timeout_of_the_step_itself_is_not_taken_for_the_deadline() -> None:
    async def step() -> None:
        raise TimeoutError("of the step's own")

    with pytest.raises(TimeoutError, match="of the step's own"):
        await every(SimClock(), 1.0, step)


async def test_a_failing_loop_is_started_again_with_growing_delays_and_its_trace_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, kept, starts_s = SimClock(0.0), Kept(), list[float]()

    async def run() -> None:
        starts_s.append(clock.now())
        if len(starts_s) == 6:
            raise Enough
        raise ValueError("out of cheese")

    with caplog.at_level(logging.ERROR), pytest.raises(Enough):
        await supervise("cheese", run, clock, Random(1), kept, FATAL)
    gaps_s = [after - before for before, after in itertools.pairwise(starts_s)]
    for gap_s, ceiling_s in zip(gaps_s, [0.5, 1, 2, 4, 8], strict=True):
        assert ceiling_s / 2 <= gap_s <= ceiling_s
    assert kept.restarts == ["cheese"] * 5
    assert [record.message for record in caplog.records] == ["loop failed"] * 5
    assert "ValueError: out of cheese" in caplog.text


async def test_delays_begin_anew_after_a_calm_run() -> None:
    clock, starts_s = SimClock(0.0), list[float]()

    async def run() -> None:
        starts_s.append(clock.now())
        if len(starts_s) == 7:
            raise Enough
        if len(starts_s) == 6:
            await clock.sleep(61.0)
        raise ValueError

    with pytest.raises(Enough):
        await supervise("x", run, clock, Random(1), policy=FATAL)
    assert starts_s[-1] - starts_s[-2] - 61.0 <= 0.5


async def test_a_loop_that_ends_by_itself_is_started_again() -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            raise Enough

    with pytest.raises(Enough):
        await supervise("x", run, SimClock(), Random(1), policy=FATAL)
    assert runs == 3


async def test_cancellation_ends_the_loop() -> None:
    async def run() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(supervise("x", run, SimClock(), Random(1)))
    await auntil(lambda: not task.done())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_loop_is_not_lost_when_something_it_awaits_is_cancelled_by_others() -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise Enough
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    with pytest.raises(Enough):
        await supervise("x", run, SimClock(), Random(1), policy=FATAL)


def failing_then_waiting(done: asyncio.Event, failures: int) -> Run:
    left = failures

    async def run() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise Unavailable("not yet")
        done.set()
        await asyncio.Event().wait()

    return run


async def test_a_failing_loop_leaves_its_neighbours_alone() -> None:
    done, neighbour_runs = asyncio.Event(), 0

    async def neighbour() -> None:
        nonlocal neighbour_runs
        neighbour_runs += 1
        await asyncio.Event().wait()

    kept = Kept()
    async with Supervisor(SimClock(), Random(1), kept) as loops:
        loops.start("neighbour", neighbour)
        loops.start("shaky", failing_then_waiting(done, 3))
        await done.wait()
        assert set(loops.running) == {"neighbour", "shaky"}
    assert neighbour_runs == 1
    assert kept.restarts == ["shaky"] * 3
    assert not loops.running


async def invariant_broken() -> None:
    raise AssertionError("two leaders")


async def invariant_broken_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(invariant_broken())


@pytest.mark.parametrize(
    ("run", "kind"),
    [(invariant_broken, AssertionError), (invariant_broken_in_a_group, ExceptionGroup)],
)
async def test_a_broken_invariant_ends_everything(run: Run, kind: type[Exception]) -> None:
    ended: list[str] = []

    async def neighbour() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("neighbour")

    with pytest.raises(kind):
        await Supervisor(SimClock(), Random(1)).run({"neighbour": neighbour, "broken": run})
    assert ended == ["neighbour"]


async def test_a_periodic_loop_tells_its_lateness_by_name() -> None:
    kept, steps = Kept(), 0

    async def step() -> None:
        nonlocal steps
        steps += 1

    async with Supervisor(SimClock(), Random(1), kept) as loops:
        loops.start_periodic("tick", 1.0, step)
        await auntil(lambda: steps >= 3)
    assert kept.lateness[:3] == [("tick", 0.0, 0)] * 3


async def test_a_loop_can_be_stopped_alone_and_started_again() -> None:
    async with Supervisor(SimClock(), Random(1)) as loops:
        loops.start("a", _forever)
        with pytest.raises(ValueError, match="running"):
            loops.start("a", _forever)
        await loops.stop("a")
        await loops.stop("never started")
        assert not loops.running
        loops.start("a", _forever)
        assert "a" in loops.running


async def _forever() -> None:
    await asyncio.Event().wait()


async def test_an_error_of_the_block_itself_comes_out_as_it_is() -> None:
    cause = KeyError("why")
    with pytest.raises(Unavailable) as raised:
        async with Supervisor(SimClock(), Random(1)) as loops:
            loops.start("a", _forever)
            raise Unavailable("gone") from cause
    assert raised.value.__cause__ is cause
