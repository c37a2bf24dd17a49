"""Following logs: across rotation, across replicas, without holding anything up."""

import asyncio
import sys
from pathlib import Path

from serai.engine import LogLine, LogQuery
from serai.model import ReplicaState
from serai_agent.local.engine import LocalEngine
from serai_agent.local.settings import LocalSettings
from tests.integration.local.world import (
    FolderCache,
    all_lines,
    ask,
    engine_on,
    eventually,
    in_state,
    program_folder,
    ready,
    version,
)


class Follower:
    """Follows a query in a task of its own and keeps what came."""

    def __init__(self, engine: LocalEngine, query: LogQuery) -> None:
        self.lines: list[LogLine] = []
        self._task = asyncio.create_task(self._run(engine, query))

    async def _run(self, engine: LocalEngine, query: LogQuery) -> None:
        async for line in engine.logs(query):
            self.lines.append(line)

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]

    async def has(self, count: int) -> None:
        async def there() -> bool:
            return len(self.lines) >= count

        await eventually(there, 15.0, f"{count} lines were expected")

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_following_survives_rotation_and_misses_nothing(tmp_path: Path) -> None:
    settings = LocalSettings(log_file_bytes=4000, log_files=50)
    cache = FolderCache(program_folder(tmp_path))
    async with engine_on(tmp_path / "engine", cache, settings=settings) as engine:
        await engine.start(["api-1"], version(), epoch=1)
        replica = await ready(engine, "api-1")
        await ask(replica, "/many?50,before")
        follower = Follower(engine, LogQuery(api="api", follow=True, grep="e "))
        for turn in range(5):
            await ask(replica, f"/many?200,round{turn}e")
            await follower.has(50 + 200 * (turn + 1))
        assert follower.texts == [
            *(f"before {n}" for n in range(50)),
            *(f"round{turn}e {n}" for turn in range(5) for n in range(200)),
        ]
        files = list((tmp_path / "engine" / "replicas" / "api-1" / "logs").iterdir())
        assert len(files) >= 5
        await follower.stop()


async def test_following_goes_on_with_replicas_to_come(tmp_path: Path) -> None:
    cache = FolderCache(program_folder(tmp_path))
    async with engine_on(tmp_path / "engine", cache) as engine:
        follower = Follower(engine, LogQuery(api="api", follow=True, grep="said", tail=5))
        for number, name in enumerate(("api-1", "api-2")):
            await engine.start([name], version(number=number + 1), epoch=1)
            replica = await ready(engine, name)
            await ask(replica, f"/say?said-by-{name}")
            await follower.has(number + 1)
            await engine.stop([name], 5.0, epoch=1)
            await in_state(engine, name, ReplicaState.STOPPED)
        assert follower.texts == ["said-by-api-1", "said-by-api-2"]
        assert [line.version[:3] for line in follower.lines] == ["v1-", "v2-"]
        await follower.stop()


async def test_a_flood_of_lines_keeps_to_its_files_and_the_end_is_found(tmp_path: Path) -> None:
    settings = LocalSettings(log_file_bytes=100_000, log_files=3)
    code = (
        "import sys, time\n"
        "for n in range(60000): print('flood', n)\n"
        "print('x' * 200_000)\n"
        "print('the end', flush=True)\n"
        "time.sleep(60)\n"
    )
    cache = FolderCache(tmp_path)
    async with engine_on(tmp_path / "engine", cache, settings=settings) as engine:
        await engine.start(["api-1"], version(command=(sys.executable, "-c", code)), epoch=1)

        async def over() -> bool:
            last = await all_lines(engine, LogQuery(api="api", tail=1))
            return [line.text for line in last] == ["the end"]

        await eventually(over, 20.0)
        logs = tmp_path / "engine" / "replicas" / "api-1" / "logs"
        assert len(list(logs.iterdir())) <= 3
        assert sum(path.stat().st_size for path in logs.iterdir()) < 600_000
        cut, end = await all_lines(engine, LogQuery(api="api", tail=2))
        assert end.text == "the end" and cut.text.endswith("[cut: the line is longer]")
        assert 65_536 <= len(cut.text) < 65_600
