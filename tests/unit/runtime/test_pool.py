"""The hand-off to threads: what is cancelled, abandoned or fails."""

import asyncio
import threading

import pytest

from serai_runtime.pool import Pool


async def test_many_calls_come_back_each_to_its_caller() -> None:
    pool = Pool(3, asyncio.get_running_loop())
    results = await asyncio.gather(*(pool.run(lambda n: n * n, n) for n in range(200)))
    assert results == [n * n for n in range(200)]
    pool.close()


async def test_a_call_that_is_cancelled_before_it_starts_never_runs() -> None:
    pool = Pool(1, asyncio.get_running_loop())
    go, ran = threading.Event(), list[str]()
    first = pool.run(go.wait)
    second = pool.run(ran.append, "second")
    third = pool.run(ran.append, "third")
    second.cancel()
    go.set()
    await first
    await third
    assert ran == ["third"]
    pool.close()


async def test_a_call_that_nobody_waits_for_is_counted_until_it_ends() -> None:
    pool = Pool(1, asyncio.get_running_loop())
    began, go, ended = threading.Event(), threading.Event(), asyncio.Event()
    pool.on_abandoned_end = ended.set

    def hang() -> None:
        began.set()
        go.wait()

    future = pool.run(hang)
    await asyncio.to_thread(began.wait)
    assert pool.abandoned() == 0
    future.cancel()
    assert pool.abandoned() == 1
    go.set()
    async with asyncio.timeout(5):
        await ended.wait()
    assert pool.abandoned() == 0
    pool.close()


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(ValueError("x"), ValueError), (StopIteration(), RuntimeError), (SystemExit(3), RuntimeError)],
)
async def test_whatever_a_call_raises_reaches_its_caller_and_the_thread_goes_on(
    raised: BaseException, seen: type[Exception]
) -> None:
    pool = Pool(1, asyncio.get_running_loop())

    def fail() -> None:
        raise raised

    with pytest.raises(seen):
        await pool.run(fail)
    assert await pool.run(lambda: "still there") == "still there"
    pool.close()
