"""How replicas are run: environment, ports, limits, problems told in plain words."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from serai.engine import LogQuery
from serai.errors import Refused, Unavailable
from serai.model import Exit, ReplicaState
from serai.wire import encode
from serai_agent.local.folder import KeeperState, Launch, ReplicaFolder
from serai_agent.local.keepers import KEEPER, take_lock
from serai_agent.local.settings import LocalSettings
from tests.integration.local.world import (
    FolderCache,
    all_lines,
    ask,
    engine_on,
    eventually,
    fill,
    in_state,
    needs_root,
    program_folder,
    ready,
    replica_of,
    small_disk,
    told,
    version,
)
from tests.support.wait import until


async def test_a_program_sees_a_clean_environment(tmp_path: Path) -> None:
    bundle = program_folder(tmp_path)
    async with engine_on(tmp_path / "engine", FolderCache(bundle)) as engine:
        wanted = version(GREETING="hello")
        await engine.start(["api-1"], wanted, epoch=1)
        replica = await ready(engine, "api-1")
        said = await told(replica)
        environment = said["env"]
        assert isinstance(environment, dict)
        assert said["cwd"] == str(bundle)
        assert environment["GREETING"] == "hello" and environment["SERAI_API"] == "api"
        assert environment["SERAI_VERSION"] == wanted.name
        assert environment["PORT"] == str(replica.servers[0].port)
        assert environment["CUDA_VISIBLE_DEVICES"] == ""
        assert os.listdir(environment["TMPDIR"]) == []
        same = {name for name, value in environment.items() if os.environ.get(name) == value}
        leaked = same - {name for name in same if name.startswith("PYTHON") or name == "LANG"}
        assert leaked <= set(LocalSettings().passed_on)


async def test_a_second_stop_may_be_less_patient(tmp_path: Path) -> None:
    cache = FolderCache(program_folder(tmp_path))
    async with engine_on(tmp_path / "engine", cache) as engine:
        await engine.start(["api-1", "api-2"], version(STUBBORN="1"), epoch=1)
        for name in ("api-1", "api-2"):
            await ready(engine, name)
        await engine.stop(["api-1"], 600.0, epoch=1)
        assert (await replica_of(engine, "api-1")).state is ReplicaState.DRAINING
        await engine.stop(["api-1", "api-2"], 0.3, epoch=1)
        for name in ("api-1", "api-2"):
            replica = await in_state(engine, name, ReplicaState.STOPPED)
            assert replica.exit == Exit(signal="SIGKILL") and "0.3 s" in replica.reason


async def test_a_server_that_is_not_ready_says_what_it_answers(tmp_path: Path) -> None:
    cache = FolderCache(program_folder(tmp_path))
    async with engine_on(tmp_path / "engine", cache) as engine:
        await engine.start(["api-1"], version(), epoch=1)
        await ask(await ready(engine, "api-1"), "/ready?no")
        assert "503" in (await in_state(engine, "api-1", ReplicaState.LOADING)).reason


async def test_a_command_that_is_not_there_fails_with_its_name(tmp_path: Path) -> None:
    async with engine_on(tmp_path / "engine", FolderCache(tmp_path)) as engine:
        await engine.start(["api-1"], version(command=("no-such-program",)), epoch=1)
        failed = await in_state(engine, "api-1", ReplicaState.FAILED)
        assert "no-such-program" in failed.reason


async def test_an_id_that_could_leave_the_folder_is_refused(tmp_path: Path) -> None:
    async with engine_on(tmp_path / "engine", FolderCache(tmp_path)) as engine:
        for bad in ("../x", "", "A", ".", "x" * 200, "a/b"):
            with pytest.raises(Refused):
                await engine.start([bad], version(), epoch=1)
        assert list(await engine.observe()) == []


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def stranger_on(port: int) -> Iterator[None]:
    """Answer every request on a port, as a program that took it in between would."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("waits", ["60", "0.3"])
async def test_a_port_taken_in_between_is_not_the_users_failure(tmp_path: Path, waits: str) -> None:
    """Both ways: the program has not tried yet, or it tried and ended with an error."""
    bundle, cache = program_folder(tmp_path), FolderCache(tmp_path / "bundle")
    (bundle / "late.py").write_text(
        "import os, time, runpy\n"
        "if not os.path.exists('again'):\n"
        "    while not os.path.exists('go'): time.sleep(0.02)\n"
        f"    time.sleep({waits})\n"
        "runpy.run_path('server.py', run_name='__main__')\n"
    )
    settings = LocalSettings(probe_timeout_s=0.5)
    async with engine_on(tmp_path / "engine", cache, settings=settings) as engine:
        await engine.start(["api-1"], version(command=(sys.executable, "late.py")), epoch=1)
        await in_state(engine, "api-1", ReplicaState.STARTING)
        launch = ReplicaFolder(tmp_path / "engine" / "replicas" / "api-1").launch()
        assert launch is not None
        with stranger_on(launch.ports[0]):
            (bundle / "go").touch()
            (bundle / "again").touch()
            replica = await ready(engine, "api-1")
            assert replica.servers[0].port != launch.ports[0]


async def test_use_is_measured_over_the_whole_tree(tmp_path: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    settings = LocalSettings(usage_period_s=0.1)
    cache = FolderCache(tmp_path)
    async with engine_on(tmp_path / "engine", cache, settings=settings) as engine:
        await engine.start(["api-1"], version(command=(sys.executable, "-c", code)), epoch=1)

        async def busy() -> bool:
            return any(use.cpu_cores > 0.2 and use.processes == 2 for use in engine.usage())

        await eventually(busy, 20.0)
        (use,) = engine.usage()
        assert use.replica == "api-1" and 2**20 < use.memory_bytes < 2**30


async def test_a_full_disk_refuses_a_start_and_leaves_nothing(tmp_path: Path) -> None:
    needs_root()
    bundle = program_folder(tmp_path)
    with small_disk(tmp_path / "disk", "256k") as disk:
        async with engine_on(disk / "engine", FolderCache(bundle)) as engine:
            await engine.start(["api-1"], version(), epoch=1)
            replica = await ready(engine, "api-1")
            fill(disk / "ballast")
            with pytest.raises(Unavailable, match="full"):
                await engine.start(["api-2"], version(), epoch=1)
            assert [r.id for r in await engine.observe()] == ["api-1"]
            assert not (disk / "engine" / "replicas" / "api-2").exists()
            assert (await told(replica))["cwd"] == str(bundle), "what runs goes on"
            (disk / "ballast").unlink()
            await engine.start(["api-2"], version(), epoch=1)
            await ready(engine, "api-2")


async def test_a_replica_goes_on_when_its_log_cannot_be_written(tmp_path: Path) -> None:
    needs_root()
    bundle = program_folder(tmp_path)
    with small_disk(tmp_path / "disk", "300k") as disk:
        async with engine_on(disk / "engine", FolderCache(bundle)) as engine:
            code = (
                "import runpy\nfor n in range(20000): print('much to say', n)\n"
                "runpy.run_path('server.py', run_name='__main__')"
            )
            await engine.start(["api-1"], version(command=(sys.executable, "-c", code)), epoch=1)
            await ready(engine, "api-1")
            found = await all_lines(engine, LogQuery(api="api"))
            assert found[0].text == "much to say 0"
            await engine.stop(["api-1"], 5.0, epoch=1)
            await in_state(engine, "api-1", ReplicaState.STOPPED)


def run_keeper(folder: Path, command: tuple[str, ...], oom_file: str = "") -> ReplicaFolder:
    """Start a keeper by itself."""
    (folder / "logs").mkdir(parents=True)
    launch = Launch(
        command=command,
        env={"PATH": os.environ["PATH"]},
        cwd=str(folder),
        log_file_bytes=10_000,
        log_files=3,
        log_line_bytes=1000,
        oom_score_adj=500,
        ports=(),
        oom_file=oom_file,
    )
    (folder / "launch.json").write_bytes(encode(launch))
    kept = ReplicaFolder(folder)
    lock_fd = take_lock(kept)
    keeper = [sys.executable, "-I", "-S", "-E", str(KEEPER), str(folder), str(lock_fd)]
    subprocess.run(keeper, check=True, capture_output=True, timeout=20, pass_fds=(lock_fd,))
    os.close(lock_fd)
    return kept


def ended(folder: ReplicaFolder) -> KeeperState:
    def state() -> KeeperState | None:
        found = folder.keeper_state()
        return found if found is not None and found.ended_at_s is not None else None

    found = until(state)
    assert found is not None
    return found


def test_an_end_for_lack_of_memory_is_told(tmp_path: Path) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom_kill 4\n")
    code = f"echo 'oom_kill 5' > {counter}; kill -9 $$"
    assert ended(run_keeper(tmp_path / "a", ("sh", "-c", code), str(counter))).oom
    only_killed = ended(run_keeper(tmp_path / "b", ("sh", "-c", "kill -9 $$"), str(counter)))
    assert only_killed.signal == "SIGKILL" and not only_killed.oom


def test_a_keeper_is_small_and_its_child_is_the_first_to_go(tmp_path: Path) -> None:
    folder = run_keeper(tmp_path / "a", ("sleep", "60"))
    state = folder.keeper_state()
    assert state is not None and folder.keeper_lives()
    keeper = psutil.Process(state.keeper_pid)
    try:
        assert keeper.memory_info().rss < 20 * 2**20
        score = Path(f"/proc/{state.child_pid}/oom_score_adj")
        if score.exists():
            assert int(score.read_text()) == 500
    finally:
        keeper.terminate()
    assert ended(folder).signal == "SIGTERM"
    until(lambda: not folder.keeper_lives())


async def test_changes_are_announced(tmp_path: Path) -> None:
    seen: list[str] = []
    cache = FolderCache(program_folder(tmp_path))
    async with engine_on(
        tmp_path / "engine", cache, changed=lambda: seen.append("changed")
    ) as engine:
        await engine.start(["api-1"], version(), epoch=1)
        await ready(engine, "api-1")
        assert seen
        count = len(seen)
        await engine.stop(["api-1"], 5.0, epoch=1)
        assert len(seen) > count
        assert (await replica_of(engine, "api-1")).servers == ()
