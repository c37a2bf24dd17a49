"""Replicas outlive the engine; nothing is doubled, nothing is left behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from serai.engine import LogQuery
from serai.errors import Refused
from serai.model import ReplicaState
from serai_agent.local.engine import LocalEngine
from serai_agent.local.folder import ReplicaFolder
from tests.integration.local.world import (
    FolderCache,
    all_lines,
    ask,
    ask_rudely,
    engine_on,
    eventually,
    in_state,
    program_folder,
    ready,
    replica_of,
    told,
    version,
)
from tests.support.wait import until

STEPS = ("order.json", "launch.json", "keeper.lock", "state.json", "ready.json")


@contextmanager
def engine_process(
    folder: Path, bundle: Path, *names: str, wait: bool = True
) -> Iterator[subprocess.Popen[str]]:
    """Run an engine in a process of its own until its replicas are ready; kill it at the end."""
    command = [sys.executable, "-m", "tests.integration.local.engine_process"]
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [*command, str(folder), str(bundle), *names], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        try:
            assert process.stdout is not None
            for name in names if wait else ():
                assert process.stdout.readline().startswith(name)
            yield process
        finally:
            process.kill()


def folder_of(engine: Path, replica: str) -> ReplicaFolder:
    return ReplicaFolder(engine / "replicas" / replica)


def pids_of(engine: Path, replica: str) -> tuple[int, int]:
    state = folder_of(engine, replica).keeper_state()
    assert state is not None
    return state.keeper_pid, state.child_pid


def gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


class Stream:
    """Requests one after the other to a port, in a thread, counting what failed."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/"
        self.answered = 0
        self.failed: list[str] = []
        self.going_on = True

    def run(self) -> None:
        while self.going_on:
            try:
                with urllib.request.urlopen(self._url, timeout=5) as answer:
                    self.answered += answer.status == 200
            except OSError as error:
                self.failed.append(str(error))


async def test_a_killed_engine_is_succeeded_while_requests_flow(tmp_path: Path) -> None:
    folder, bundle = tmp_path / "engine", program_folder(tmp_path)
    with engine_process(folder, bundle, "api-1", "api-2") as process:
        launch = folder_of(folder, "api-1").launch()
        assert launch is not None
        before = pids_of(folder, "api-1")
        stream = Stream(launch.ports[0])
        flowing = asyncio.create_task(asyncio.to_thread(stream.run))
        process.kill()
        process.wait()
    dead = pids_of(folder, "api-2")
    os.kill(dead[1], signal.SIGSEGV)  # ends while no engine looks
    until(lambda: gone(dead[0]))
    async with engine_on(folder, FolderCache(bundle)) as engine:
        replica = await replica_of(engine, "api-1")
        assert replica.state is ReplicaState.READY, "its servers stay listed from the first moment"
        assert replica.servers[0].port == launch.ports[0] and replica.ready_at_s is not None
        failed = await in_state(engine, "api-2", ReplicaState.FAILED)
        assert failed.exit is not None and failed.exit.signal == "SIGSEGV"
        await engine.start(["api-1"], version(), epoch=3)
        assert (await told(replica))["pid"] == before[1]
        with pytest.raises(Refused):
            await engine.start(["api-3"], version(), epoch=2)
        answered = stream.answered
        await eventually(lambda: _more(stream, answered + 20))
        assert pids_of(folder, "api-1") == before
        stream.going_on = False
        await flowing
    assert stream.failed == [] and stream.answered > 20
    assert gone(before[0]) and gone(before[1])


async def _says(engine: LocalEngine, reason: str) -> bool:
    return (await replica_of(engine, "api-1")).reason == reason


async def _more(stream: Stream, count: int) -> bool:
    return stream.answered > count


def marked(folder: ReplicaFolder) -> list[int]:
    """Return the program's processes: those with the replica's own TMPDIR."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TMPDIR") == str(folder.temporary):
                found.append(process.pid)
    return found


@pytest.mark.parametrize("step", STEPS)
async def test_an_engine_killed_at_any_step_doubles_nothing(tmp_path: Path, step: str) -> None:
    """The window that counts is between the decision to start a program and its being known."""
    folder, bundle = tmp_path / "engine", program_folder(tmp_path)
    with engine_process(folder, bundle, "api-1", wait=False) as process:
        until(lambda: (folder / "replicas" / "api-1" / step).exists())
        process.kill()
    async with engine_on(folder, FolderCache(bundle)) as engine:
        replica = await ready(engine, "api-1")
        assert marked(folder_of(folder, "api-1")) == [(await told(replica))["pid"]]
    assert marked(folder_of(folder, "api-1")) == []


async def test_a_killed_keeper_ends_its_replica_and_frees_its_port(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    async with engine_on(folder, FolderCache(program_folder(tmp_path))) as engine:
        await engine.start(["api-1"], version(), epoch=1)
        replica = await ready(engine, "api-1")
        _, child = await ask(replica, "/child")
        keeper_pid, child_pid = pids_of(folder, "api-1")
        os.kill(keeper_pid, signal.SIGKILL)
        failed = await in_state(engine, "api-1", ReplicaState.FAILED)
        assert "keeper" in failed.reason and failed.exit is None
        assert gone(child_pid) and gone(int(child))
        with pytest.raises(urllib.error.URLError):
            await ask(replica, "/")


async def test_no_process_is_left_when_a_replica_ends(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    async with engine_on(folder, FolderCache(program_folder(tmp_path))) as engine:
        for name, end in (("api-1", "stop"), ("api-2", "crash")):
            await engine.start([name], version(), epoch=1)
            replica = await ready(engine, name)
            _, child = await ask(replica, "/child")
            assert not gone(int(child))
            if end == "stop":
                await engine.stop([name], 5.0, epoch=1)
                await in_state(engine, name, ReplicaState.STOPPED)
            else:
                await ask_rudely(replica, "/exit?1")
                await in_state(engine, name, ReplicaState.FAILED)
            assert gone(int(child)), end
            assert not folder_of(folder, name).temporary.exists()
            assert folder_of(folder, name).launch() is None, "it may hold secrets"


async def test_replicas_are_kept_or_ended_as_told(tmp_path: Path) -> None:
    folder, cache = tmp_path / "engine", FolderCache(program_folder(tmp_path))
    async with engine_on(folder, cache, keep=True) as engine:
        await engine.start(["api-1"], version(), epoch=1)
        await ready(engine, "api-1")
        pids = pids_of(folder, "api-1")
    assert not gone(pids[0]) and not gone(pids[1])
    async with engine_on(folder, cache) as engine:
        assert (await replica_of(engine, "api-1")).state is ReplicaState.READY
    assert gone(pids[0]) and gone(pids[1])
    async with engine_on(folder, cache) as engine:
        assert (await replica_of(engine, "api-1")).state is ReplicaState.STOPPED


async def test_an_order_that_was_not_begun_is_carried_out_by_the_next_engine(
    tmp_path: Path,
) -> None:
    folder, cache = tmp_path / "engine", FolderCache(program_folder(tmp_path))
    cache.allowed.clear()
    async with engine_on(folder, cache, keep=True) as engine:
        await engine.start(["api-1"], version(), epoch=1)
        await eventually(lambda: _says(engine, "fetching the bundle"))
        assert (await replica_of(engine, "api-1")).state is ReplicaState.PENDING
    cache.allowed.set()
    async with engine_on(folder, cache) as engine:
        await ready(engine, "api-1")


async def test_a_replica_that_is_stopped_before_it_began_just_ends(tmp_path: Path) -> None:
    cache = FolderCache(program_folder(tmp_path))
    cache.allowed.clear()
    async with engine_on(tmp_path / "engine", cache) as engine:
        await engine.start(["api-1"], version(), epoch=1)
        await engine.stop(["api-1"], 5.0, epoch=1)
        replica = await in_state(engine, "api-1", ReplicaState.STOPPED)
        assert replica.exit is None


async def test_a_replica_whose_order_cannot_be_read_is_ended(tmp_path: Path) -> None:
    folder, cache = tmp_path / "engine", FolderCache(program_folder(tmp_path))
    async with engine_on(folder, cache, keep=True) as engine:
        await engine.start(["api-1"], version(), epoch=1)
        await ready(engine, "api-1")
        pids = pids_of(folder, "api-1")
    (folder / "replicas" / "api-1" / "order.json").write_text("{")
    async with engine_on(folder, cache) as engine:
        assert list(await engine.observe()) == []
        assert gone(pids[1])
        assert not (folder / "replicas" / "api-1").exists()


async def test_two_engines_on_one_folder_exclude_each_other(tmp_path: Path) -> None:
    cache = FolderCache(program_folder(tmp_path))
    async with engine_on(tmp_path / "engine", cache):
        with pytest.raises(Refused, match=str(os.getpid())):
            async with engine_on(tmp_path / "engine", cache):
                pass


async def test_ended_replicas_are_kept_in_a_bounded_number(tmp_path: Path) -> None:
    folder, cache = tmp_path / "engine", FolderCache(tmp_path)
    async with engine_on(folder, cache) as engine:
        for number in range(13):
            await engine.start([f"api-{number:02}"], version(command=("echo", "hi")), epoch=1)
            await in_state(engine, f"api-{number:02}", ReplicaState.FAILED)

        async def pruned() -> bool:
            return len(await engine.observe()) == 10

        await eventually(pruned)
        assert {r.id for r in await engine.observe()} == {f"api-{n:02}" for n in range(3, 13)}
        lines = await all_lines(engine, LogQuery(api="api"))
        assert [line.text for line in lines] == ["hi"] * 10
    assert len(list((folder / "replicas").iterdir())) == 10
