"""Starting, draining, crashing: the supervisor and its workers."""

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.load import CheckedClient, post
from tests.support.runtime import alive, served
from tests.support.wait import auntil, until


def write(folder: Path, source: str) -> Path:
    path = folder / "predictor.py"
    path.write_text(source)
    return path


async def ask(url: str, payload: Any) -> Any:
    async with (
        aiohttp.ClientSession() as client,
        client.post(url, json=payload) as response,
    ):
        return await response.json()


def test_it_tells_that_it_imports(tmp_path: Path) -> None:
    predictor = write(
        tmp_path,
        "import time\n"
        "from pathlib import Path\n"
        "while not Path(__file__).with_name('go').exists(): time.sleep(0.01)\n"
        "class Predictor:\n def predict(self, payload): return payload\n",
    )
    with served(predictor, tmp_path, wait=False) as runtime:
        until(lambda: runtime.get("/readyz") == (503, {"phase": "importing"}), 20)
        until(lambda: runtime.status()["processes"][0]["phase"] == "importing")
        (tmp_path / "go").touch()
        until(runtime.ready)


def test_it_answers_probes_while_the_predictor_loads(tmp_path: Path) -> None:
    with served("loading", tmp_path, wait=False) as runtime:
        until(lambda: runtime.get("/readyz") == (503, {"phase": "loading"}), 20)
        assert runtime.get("/healthz") == (200, {"status": "alive"})
        status, body = runtime.get("/")
        assert (status, body["error"]["code"]) == (503, "loading")
        (tmp_path / "loaded").touch()
        until(runtime.ready)
        assert runtime.get("/readyz") == (200, {"phase": "ready"})
        assert runtime.event("predictor ready")["load_s"] > 0
        assert runtime.stop() == 0


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name' (predictor.py, l"),
        ("x = (", "SyntaxError: '(' was never closed"),
        ("class Predictor:\n def predict(self, p): ...", "found (self, p)"),
        ("class Predictor:\n def __init__(self): 1 / 0\n def predict(self): ...", "division"),
        ("raise SystemExit(9)", "SystemExit: 9"),
        ("raise ValueError('x' * 300_000)", "ValueError: xxx"),
        ("class E(Exception):\n def __str__(self): 1 / 0\nraise E", "E: <exception str() failed>"),
        (
            "from asyncio import CancelledError as C\nclass Predictor:\n"
            " async def load(self): raise C\n def predict(self): ...",
            "CancelledError",
        ),
    ],
)
def test_an_unusable_predictor_ends_it_with_the_reason(
    tmp_path: Path, source: str, reason: str
) -> None:
    with served(write(tmp_path, source), tmp_path, wait=False) as runtime:
        assert runtime.process.wait(20) == 3
        assert reason in runtime.status()["failure"]["reason"]
        assert runtime.status()["processes"][0]["phase"] == "failed"
        assert reason in runtime.event("predictor cannot be served")["why"]


def test_a_taken_port_ends_it_with_the_reason(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with served("crashing", tmp_path, "--port", str(port), wait=False) as runtime:
            assert runtime.process.wait(20) == 3
            assert f"127.0.0.1:{port}" in runtime.status()["failure"]["reason"]
            assert "choose another --port" in runtime.status()["failure"]["reason"]


async def test_sigterm_finishes_what_is_in_flight(tmp_path: Path) -> None:
    with served("waiting", tmp_path) as runtime:
        began = asyncio.create_task(ask(runtime.url, {"name": "a"}))
        await auntil((tmp_path / "began-a").exists)
        runtime.process.send_signal(signal.SIGTERM)
        await auntil(lambda: runtime.events("draining"))
        await auntil(lambda: runtime.get("/healthz")[0] == 0, what="the listener stays open")
        assert runtime.process.poll() is None
        (tmp_path / "go-a").touch()
        assert (await began)["name"] == "a"
        assert await asyncio.to_thread(runtime.process.wait, 10) == 0
        assert (tmp_path / "closed").exists()
        assert runtime.events("stopped")


async def test_the_deregistration_delay_serves_on_with_readiness_off(tmp_path: Path) -> None:
    options = ("--deregistration-delay-s", "1.5")
    with served("crashing", tmp_path, *options) as runtime:
        runtime.process.send_signal(signal.SIGTERM)
        await auntil(lambda: runtime.get("/readyz") == (503, {"phase": "draining"}))
        async with (
            aiohttp.ClientSession() as client,
            client.post(runtime.url, json="hello") as response,
        ):
            assert (response.status, response.headers["Connection"]) == (200, "close")
        assert await asyncio.to_thread(runtime.process.wait, 10) == 0


@pytest.mark.parametrize("last", [False, True], ids=["kept", "one request per connection"])
async def test_sigterm_under_load_loses_nothing(tmp_path: Path, last: bool) -> None:
    options = ("--concurrency", "32", "--threads", "2")
    request = post("/", b'{"do": "text"}', last)
    with served("everything", tmp_path, *options) as runtime:
        client = CheckedClient("127.0.0.1", runtime.ports[0], lambda n: (request, b"some text"))
        load = asyncio.create_task(client.run(connections=16))
        await auntil(lambda: client.seen.right > 300)
        runtime.process.send_signal(signal.SIGTERM)
        seen = await load
        assert (seen.lost, seen.wrong) == (0, 0), seen.notes
        assert seen.refused == 16
        assert await asyncio.to_thread(runtime.process.wait, 10) == 0


async def test_the_drain_limit_and_the_second_signal_end_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with served("waiting", tmp_path / "a", "--drain-limit-s", "0.3") as runtime:
        hung = asyncio.create_task(ask(runtime.url, {"name": "a"}))
        await auntil((tmp_path / "a" / "began-a").exists)
        runtime.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(runtime.process.wait, 15) == 0
        assert runtime.events("drain limit passed")
        assert (tmp_path / "a" / "closed").exists()  # although a thread hangs
        await asyncio.gather(hung, return_exceptions=True)
    (tmp_path / "b").mkdir()
    with served("waiting", tmp_path / "b") as runtime:
        hung = asyncio.create_task(ask(runtime.url, {"name": "a"}))
        await auntil((tmp_path / "b" / "began-a").exists)
        (worker,) = runtime.pids()
        runtime.process.send_signal(signal.SIGTERM)
        await auntil(lambda: runtime.events("draining"))
        runtime.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(runtime.process.wait, 5) == 130
        await auntil(lambda: not alive(worker))
        await asyncio.gather(hung, return_exceptions=True)


@pytest.mark.parametrize(
    ("payload", "exit_code", "signal_name", "why"),
    [("exit", 7, None, "exit code 7"), ("kill", None, "SIGKILL", "killed by SIGKILL")],
)
async def test_a_worker_that_dies_is_told_and_started_again(
    tmp_path: Path, payload: str, exit_code: int | None, signal_name: str | None, why: str
) -> None:
    with served("crashing", tmp_path) as runtime:
        with pytest.raises(aiohttp.ClientError):
            await ask(runtime.url, payload)
        event = await asyncio.to_thread(runtime.event, "worker exited")
        assert (event["exit_code"], event["signal"]) == (exit_code, signal_name)
        assert event["why"].startswith(why)
        await auntil(runtime.ready)
        (told,) = runtime.status()["processes"]
        assert (told["restarts"], told["last_exit"]["signal"]) == (1, signal_name)
        assert told["last_exit"]["exit_code"] == exit_code


def test_one_that_never_becomes_ready_is_given_up(tmp_path: Path) -> None:
    source = (
        "import os\nclass Predictor:\n def __init__(self): os._exit(9)\n def predict(self): ..."
    )
    with served(write(tmp_path, source), tmp_path, wait=False) as runtime:
        assert runtime.process.wait(45) == 3
        assert "ended 5 times in a row" in runtime.status()["failure"]["reason"]
        assert "exit code 9" in runtime.status()["failure"]["reason"]


async def test_a_blocked_event_loop_is_found_told_and_started_again(tmp_path: Path) -> None:
    with served("waiting_async", tmp_path) as runtime:
        (before,) = runtime.pids()
        blocking = asyncio.create_task(ask(runtime.url, {"name": "block"}))
        event = await asyncio.to_thread(runtime.event, "event loop blocked", 8.0)
        assert "waiting_async.py" in event["stack"]
        with pytest.raises(aiohttp.ClientError):
            await blocking
        await auntil(runtime.ready)
        assert len(runtime.events("event loop blocked")) == 1
        (told,) = runtime.status()["processes"]
        assert told["pid"] != before
        assert "event loop was blocked" in told["last_exit"]["why"]


async def test_a_loop_that_blocks_while_it_drains_does_not_keep_it_from_ending(
    tmp_path: Path,
) -> None:
    with served("waiting_async", tmp_path) as runtime:
        held = asyncio.create_task(ask(runtime.url, {"name": "a"}))
        await auntil(lambda: (tmp_path / "began-a").exists())
        blocking = asyncio.create_task(ask(runtime.url, {"name": "block"}))
        await auntil(lambda: (tmp_path / "blocks").exists())
        runtime.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(runtime.process.wait, 10) == 0
        await asyncio.gather(blocking, held, return_exceptions=True)


async def test_each_process_has_its_port_and_the_rest_serve_on(tmp_path: Path) -> None:
    with served("crashing", tmp_path, processes=2) as runtime:
        urls = [f"http://127.0.0.1:{port}" for port in runtime.ports]
        pids = [await ask(url, "who") for url in urls]
        assert sorted(pids) == sorted(runtime.pids())
        with pytest.raises(aiohttp.ClientError):
            await ask(urls[0], "kill")
        assert await ask(urls[1], "who") == pids[1]
        await auntil(runtime.ready)
        assert await ask(urls[0], "who") not in pids
        assert await asyncio.to_thread(runtime.stop) == 0
        assert not any(alive(pid) for pid in pids)


def test_no_worker_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with served("crashing", tmp_path, processes=2) as runtime:
        workers = runtime.pids()
        assert len(workers) == 2 and all(map(alive, workers))
        os.kill(runtime.process.pid, signal.SIGKILL)
        until(lambda: not any(map(alive, workers)), 5)


def test_what_a_worker_started_ends_with_it(tmp_path: Path) -> None:
    source = "import subprocess\nclass Predictor:\n"
    source += " def predict(self, payload): return subprocess.Popen(['sleep', '300']).pid\n"
    with served(write(tmp_path, source), tmp_path) as runtime:
        child = runtime.get("/")[1]
        assert alive(child)
        assert runtime.stop() == 0
        until(lambda: not alive(child), 5)


def test_text_logs_and_the_access_log(tmp_path: Path) -> None:
    options = ("--log-format", "text", "--access-log", "--api", "hello", "--replica", "r1")
    with served("crashing", tmp_path, *options) as runtime:
        runtime.get("/some/path?secret=1")
        until(lambda: "/some/path" in runtime.log_text())
        assert "secret" not in runtime.log_text()
        assert "status=200" in runtime.log_text()
