"""Predictors under the real runtime: several processes, failures, restarts, drain."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from serai.engine import LogQuery
from serai.model import Replica, ReplicaState, Version
from serai.spec.types import Predictor, Readiness
from serai.units import Duration
from serai_agent.local.engine import LocalEngine
from serai_agent.local.folder import ReplicaFolder
from tests.integration.local.world import (
    FolderCache,
    all_lines,
    ask,
    engine_on,
    eventually,
    in_state,
    ready,
    replica_of,
    version,
)

CODE = """
import os, time, signal

class Predictor:
    def __init__(self, config):
        self.config = config

    def predict(self, query_params):
        if "sleep" in query_params:
            print("beginning")
            time.sleep(float(query_params["sleep"]))
        print("predicting in", os.getpid())
        return {"config": self.config, "pid": os.getpid(), "cwd": os.getcwd()}
"""

INSTALLED = Path(sys.prefix)
"""The environment that runs the tests: it has the runtime and its requirements."""


def bundle_with(tmp_path: Path, code: str = CODE) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "predictor.py").write_text(code)
    return folder


def predictor_version(processes: int = 1, concurrency: int = 1, threads: int = 1) -> Version:
    predictor = Predictor(
        path="predictor.py", config={"a": [1]}, processes=processes, threads=threads
    )
    readiness = Readiness(period=Duration(0.2))
    return version(predictor=predictor, concurrency=concurrency, readiness=readiness)


async def answer_of(replica: Replica) -> dict[str, object]:
    _, body = await ask(replica, "/")
    found: dict[str, object] = json.loads(body)
    return found


async def all_ready(engine: LocalEngine, count: int) -> Replica:
    async def there() -> bool:
        return len((await replica_of(engine, "api-1")).servers) == count

    await eventually(there, 20.0)
    return await replica_of(engine, "api-1")


async def test_a_predictor_answers_in_its_folder_with_its_config(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path)
    async with engine_on(tmp_path / "engine", FolderCache(bundle, INSTALLED)) as engine:
        await engine.start(["api-1"], predictor_version(), epoch=1)
        said = await answer_of(await ready(engine, "api-1"))
        assert said["config"] == {"a": [1]} and said["cwd"] == str(bundle)
        assert sorted(path.name for path in bundle.iterdir()) == ["predictor.py"]

        async def logged() -> bool:
            found = await all_lines(engine, LogQuery(api="api", grep="predicting in"))
            return len(found) == 1

        await eventually(logged)


async def test_each_process_is_a_server_and_a_killed_one_comes_back(tmp_path: Path) -> None:
    cache = FolderCache(bundle_with(tmp_path), INSTALLED)
    async with engine_on(tmp_path / "engine", cache) as engine:
        await engine.start(["api-1"], predictor_version(processes=2, concurrency=5, threads=4), 1)
        replica = await all_ready(engine, 2)
        assert [server.capacity for server in replica.servers] == [3, 2]
        said = await answer_of(replica)
        os.kill(int(str(said["pid"])), signal.SIGKILL)
        one_left = await all_ready(engine, 1)
        assert one_left.state is ReplicaState.READY and one_left.servers[0].id == "api-1.1"
        back = await all_ready(engine, 2)
        assert back.restarts == 1 and back.servers == replica.servers
        assert (await answer_of(back))["pid"] != said["pid"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_of_this_name\nclass Predictor: pass", "nothing_of_this_name"),
        ("x = 1", "Predictor"),
        (CODE.replace("self.config = config", "raise ValueError('no weights')"), "no weights"),
    ],
)
async def test_a_predictor_that_cannot_be_loaded_says_why(
    tmp_path: Path, code: str, reason: str
) -> None:
    cache = FolderCache(bundle_with(tmp_path, code), INSTALLED)
    async with engine_on(tmp_path / "engine", cache) as engine:
        await engine.start(["api-1"], predictor_version(), epoch=1)
        failed = await in_state(engine, "api-1", ReplicaState.FAILED)
        assert reason in failed.reason and failed.servers == ()
        assert failed.log_tail


async def test_what_is_in_flight_is_finished_before_the_end(tmp_path: Path) -> None:
    cache = FolderCache(bundle_with(tmp_path), INSTALLED)
    async with engine_on(tmp_path / "engine", cache) as engine:
        await engine.start(["api-1"], predictor_version(), epoch=1)
        replica = await ready(engine, "api-1")
        slow = asyncio.create_task(ask(replica, "/?sleep=0.7"))

        async def taken() -> bool:
            return bool(await all_lines(engine, LogQuery(api="api", grep="beginning")))

        await eventually(taken)
        await engine.stop(["api-1"], 20.0, epoch=1)
        draining = await replica_of(engine, "api-1")
        assert draining.state is ReplicaState.DRAINING and draining.servers == ()
        status, _ = await slow
        assert status == 200
        stopped = await in_state(engine, "api-1", ReplicaState.STOPPED)
        assert stopped.exit is not None and stopped.exit.exit_code == 0


async def test_a_runtime_that_lost_its_supervisor_is_cleared_away(tmp_path: Path) -> None:
    """The workers end with the supervisor; the keeper sees to it that none is left."""
    folder = tmp_path / "engine"
    async with engine_on(folder, FolderCache(bundle_with(tmp_path), INSTALLED)) as engine:
        await engine.start(["api-1"], predictor_version(processes=2, concurrency=2), epoch=1)
        await all_ready(engine, 2)
        state = ReplicaFolder(folder / "replicas" / "api-1").keeper_state()
        assert state is not None
        os.kill(state.child_pid, signal.SIGKILL)
        failed = await in_state(engine, "api-1", ReplicaState.FAILED)
        assert failed.exit is not None and failed.exit.signal == "SIGKILL"
