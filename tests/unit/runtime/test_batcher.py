"""Gathering payloads: the shell around the decision."""

import asyncio
from typing import Any

import pytest

from serai_runtime.batch import BatchLimits
from serai_runtime.batcher import Batcher
from serai_runtime.errors import HTTPError, PredictorError


class Held:
    """A call that takes batches and answers when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.go = asyncio.Event()

    async def __call__(self, batch: list[dict[str, Any]]) -> list[Any]:
        payloads = [one["payload"] for one in batch]
        self.batches.append(payloads)
        await self.go.wait()
        return [10 * payload for payload in payloads]


def ask(batcher: Batcher, payload: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(batcher.run({"payload": payload}))


async def settle() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(5):
        turn: asyncio.Future[None] = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


async def test_a_lone_one_goes_at_once_and_the_rest_gathers_until_it_ends() -> None:
    call, sizes = Held(), list[int]()
    batcher = Batcher(call, BatchLimits(max_size=3, max_wait_s=60.0), sizes.append)
    tasks = [ask(batcher, n) for n in range(6)]
    await settle()
    assert call.batches == [[0]]
    call.go.set()
    assert await asyncio.gather(*tasks) == [0, 10, 20, 30, 40, 50]
    assert call.batches == [[0], [1, 2, 3], [4, 5]]
    assert sizes == [1, 3, 2]


async def test_with_room_for_two_the_second_waits_for_company_but_not_for_long() -> None:
    call = Held()
    batcher = Batcher(call, BatchLimits(4, 0.02, parallel=2), lambda size: None)
    first = ask(batcher, 1)
    await settle()
    second = ask(batcher, 2)
    await settle()
    assert call.batches == [[1]]
    call.go.set()
    assert list(await asyncio.gather(first, second)) == [10, 20]


async def test_one_that_has_gone_is_not_computed() -> None:
    call = Held()
    batcher = Batcher(call, BatchLimits(4, 60.0), lambda size: None)
    tasks = [ask(batcher, n) for n in range(3)]
    await settle()
    tasks[1].cancel()
    call.go.set()
    assert list(await asyncio.gather(tasks[0], tasks[2])) == [0, 20]
    assert call.batches == [[0], [2]]


async def one_batch(results: Any) -> list[Any]:
    async def call(batch: list[dict[str, Any]]) -> Any:
        return results

    batcher = Batcher(call, BatchLimits(4, 60.0), lambda size: None)
    return list(await asyncio.gather(ask(batcher, 1), return_exceptions=True))


@pytest.mark.parametrize(
    ("results", "found"), [([1, 2], "2 results"), ([], "0 results"), ("a", "str"), (None, "None")]
)
async def test_a_wrong_number_of_results_is_told(results: Any, found: str) -> None:
    (error,) = await one_batch(results)
    assert isinstance(error, PredictorError)
    assert "a batch of 1 payloads and must return a list of as many" in str(error)
    assert found in str(error)


async def test_an_http_error_in_place_of_a_result_is_for_its_caller() -> None:
    (error,) = await one_batch([HTTPError(422, "no")])
    assert isinstance(error, HTTPError)


async def test_a_predict_that_cancels_itself_fails_its_batch_and_the_next_one_runs() -> None:
    answers: list[Any] = [asyncio.CancelledError(), [1]]

    async def call(batch: list[dict[str, Any]]) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    batcher = Batcher(call, BatchLimits(4, 1.0), lambda size: None)
    with pytest.raises(PredictorError, match="CancelledError"):
        await asyncio.wait_for(batcher.run({"payload": 1}), 5)
    assert await asyncio.wait_for(batcher.run({"payload": 1}), 5) == 1
