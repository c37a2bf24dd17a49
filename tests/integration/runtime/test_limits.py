"""Concurrency, time-outs, clients that hang up, batches."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.runtime import Served, served
from tests.support.wait import auntil


async def ask(client: aiohttp.ClientSession, payload: Any, **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.post("/", json=payload, headers=named) as response:
        return response.status, await response.json()


def named(name: str) -> dict[str, str]:
    return {"name": name}


async def until_in_flight(runtime: Served, count: int) -> None:
    """Wait until the runtime handles that many requests, as its metrics tell."""
    wanted = f"serai_runtime_in_flight_requests {float(count)}"
    await auntil(lambda: wanted in runtime.get("/metrics")[1])


async def test_more_than_slots_and_queue_is_503_and_the_queue_is_served(tmp_path: Path) -> None:
    with served("waiting", tmp_path, "--concurrency", "1", "--queue", "1") as runtime:
        async with aiohttp.ClientSession(runtime.url) as client:
            first = asyncio.create_task(ask(client, named("a")))
            await auntil((tmp_path / "began-a").exists)
            second = asyncio.create_task(ask(client, named("b")))
            await until_in_flight(runtime, 2)
            async with client.post("/", json=named("c")) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "1")
                assert (await response.json())["error"]["code"] == "overloaded"
            # A predictor that hangs stops none of the probes.
            assert (await asyncio.to_thread(runtime.get, "/healthz"))[0] == 200
            assert not (tmp_path / "began-b").exists()
            (tmp_path / "go-a").touch()
            (tmp_path / "go-b").touch()
            assert (await first)[0] == 200
            assert (await second)[1]["name"] == "b"


async def test_a_call_that_timed_out_keeps_its_slot_until_it_ends(tmp_path: Path) -> None:
    with served("waiting", tmp_path, "--queue", "0") as runtime:
        async with aiohttp.ClientSession(runtime.url) as client:
            short = {"x_serai_total_timeout_ms": "150"}
            status, body = await ask(client, named("a"), **short)
            assert (status, body["error"]["code"]) == (504, "timeout")
            assert (await ask(client, named("b")))[0] == 503
            (tmp_path / "go-a").touch()
            (tmp_path / "go-b").touch()

            async def served_again() -> bool:
                return (await ask(client, named("b")))[0] == 200

            await auntil(served_again)


async def test_a_queued_request_whose_client_hangs_up_never_runs(tmp_path: Path) -> None:
    with served("waiting", tmp_path, "--concurrency", "1") as runtime:
        async with aiohttp.ClientSession(runtime.url) as client:
            first = asyncio.create_task(ask(client, named("a")))
            await auntil((tmp_path / "began-a").exists)
            gone = asyncio.create_task(ask(client, named("gone")))

            await until_in_flight(runtime, 2)
            gone.cancel()
            await until_in_flight(runtime, 1)
            (tmp_path / "go-a").touch()
            (tmp_path / "go-c").touch()
            assert (await first)[0] == 200
            assert (await ask(client, named("c")))[0] == 200
            assert not (tmp_path / "began-gone").exists()


async def test_an_async_call_whose_client_hangs_up_is_cancelled(tmp_path: Path) -> None:
    with served("waiting_async", tmp_path) as runtime:
        async with aiohttp.ClientSession(runtime.url) as client:
            gone = asyncio.create_task(ask(client, named("gone")))
            await auntil((tmp_path / "began-gone").exists)
            gone.cancel()
            await auntil((tmp_path / "cancelled-gone").exists)
            status, _ = await ask(client, named("late"), x_serai_total_timeout_ms="100")
            assert status == 504
            assert (tmp_path / "cancelled-late").exists()
            assert not runtime.events("predict failed")
            # A cancellation that comes out of the predictor itself is its failure.
            assert (await ask(client, named("cancel")))[0] == 500


async def test_batches_gather_and_each_caller_gets_its_own(tmp_path: Path) -> None:
    options = ("--batch-max-size", "8", "--batch-max-wait-ms", "20")
    with served("batching", tmp_path, *options) as runtime:
        async with aiohttp.ClientSession(runtime.url) as client:
            status, lone = await ask(client, 21)
            assert (status, lone) == (200, {"double": 42, "batch": 1})
            go = tmp_path / "go"
            runs = asyncio.create_task(ask(client, {"until": str(go)}))
            await until_in_flight(runtime, 1)
            waiting = [asyncio.create_task(ask(client, n)) for n in range(12)]
            await until_in_flight(runtime, 13)
            go.touch()
            assert (await runs)[0] == 200
            answers = [(await task)[1] for task in waiting]
            assert [body["double"] for body in answers] == [2 * n for n in range(12)]
            assert max(body["batch"] for body in answers) == 8, "a batch gathers while one runs"
            status, body = await ask(client, "word")
            assert (status, body["error"]["message"]) == (422, "not a number")
            status, body = await ask(client, "boom")
            assert (status, body["error"]["code"]) == (500, "predictor_failed")
            assert "for all" in runtime.event("predict failed")["why"]
            status, body = await ask(client, "short")
            assert (
                "must return a list of as many results; it returned 0" in body["error"]["message"]
            )


async def test_200_connections_and_every_answer_is_its_own(tmp_path: Path) -> None:
    options = ("--concurrency", "200", "--threads", "4")
    connector = aiohttp.TCPConnector(limit=200)
    with served("everything", tmp_path, *options) as runtime:
        async with aiohttp.ClientSession(runtime.url, connector=connector) as client:
            answers = await asyncio.gather(*(ask(client, {"n": n}) for n in range(600)))
            assert [body["payload"]["n"] for _, body in answers] == list(range(600))


def test_a_replica_that_takes_more_than_its_threads_run_says_so(tmp_path: Path) -> None:
    with served("waiting", tmp_path, "--concurrency", "3", "--threads", "2") as runtime:
        why = runtime.event("requests wait in the replica")["why"]
        assert why == "concurrency 3 is above the 2 threads of predict"
    for more in (("--concurrency", "3", "--threads", "3"), ("--threads", "2")):
        with served("waiting", tmp_path, *more) as runtime:
            assert not runtime.events("requests wait in the replica")
    with served("waiting_async", tmp_path, "--concurrency", "3") as runtime:
        assert not runtime.events("requests wait in the replica")
