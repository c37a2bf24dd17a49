"""What the tests of the local engine share: a small program to run, versions, an engine."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from serai.clock import SystemClock
from serai.engine import Engine, LogLine, LogQuery
from serai.model import Replica, ReplicaState, Version, VersionContent, digest_of
from serai.spec.types import Compute, Mount, Nodes, Pod, Predictor, Readiness
from serai.units import Duration
from serai.wire import encode
from serai_agent.local.engine import LocalEngine
from serai_agent.local.place import Place, Tell
from serai_agent.local.settings import LocalSettings
from tests.support.wait import auntil

PROGRAM = """
import json, os, signal, subprocess, sys, threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

READY = not os.environ.get("NEVER_READY")

def say(text, file):
    if os.environ.get("STAMPED"):
        text = json.dumps({"at": datetime.now(UTC).isoformat(), "event": text})
    print(text, file=file, flush=True)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global READY
        path, _, query = self.path.partition("?")
        status, body = 200, "ok"
        if path == "/readyz":
            status = 200 if READY else 503
        elif path == "/ready":
            READY = query == "yes"
        elif path == "/say":
            say(query, sys.stdout)
        elif path == "/shout":
            say(query, sys.stderr)
        elif path == "/many":
            count, text = query.split(",")
            print("\\n".join(f"{text} {n}" for n in range(int(count))), flush=True)
        elif path == "/env":
            body = json.dumps({"env": dict(os.environ), "cwd": os.getcwd(), "pid": os.getpid()})
        elif path == "/child":
            code = "import os, time; os.setsid(); time.sleep(600)"
            body = str(subprocess.Popen([sys.executable, "-c", code]).pid)
        elif path == "/exit":
            print("leaving now", flush=True)
            os._exit(int(query))
        elif path == "/signal":
            os.kill(os.getpid(), int(query))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args):
        pass

if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("listening on", os.environ["PORT"], flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


class FolderCache:
    """A cache for tests of the engine: every version's parts lie in the same folder already."""

    def __init__(self, bundle: Path, environment: Path | None = None) -> None:
        self.place_found = Place(environment=environment, bundle=bundle)
        self.allowed = asyncio.Event()
        self.allowed.set()

    async def place(self, version: Version, tell: Tell) -> Place:
        tell("fetching the bundle")
        await self.allowed.wait()
        return self.place_found

    async def prune(self, in_use: Sequence[Version]) -> None:
        return

    async def close(self) -> None:
        return


def program_folder(tmp_path: Path) -> Path:
    """Return a bundle that holds the program."""
    folder = tmp_path / "bundle"
    folder.mkdir(exist_ok=True)
    (folder / "server.py").write_text(PROGRAM)
    return folder


def version(
    api: str = "api",
    number: int = 1,
    command: tuple[str, ...] = (sys.executable, "server.py"),
    predictor: Predictor | None = None,
    concurrency: int = 4,
    readiness: Readiness | None = None,
    mounts: tuple[Mount, ...] = (),
    bundle: str = "",
    nodes: Nodes | None = None,
    **env: str,
) -> Version:
    """Return a version that runs a program, or a predictor."""
    content = VersionContent(
        predictor=predictor,
        pod=None if predictor else Pod(command=command),
        bundle=bundle,
        lock="",
        runtime="",
        python="3.11",
        compute=Compute(),
        env=env,
        concurrency_per_replica=concurrency,
        readiness=readiness or Readiness(period=Duration(0.1), failures=3),
        mounts=mounts,
        nodes=nodes,
    )
    return Version(
        api=api,
        number=number,
        digest=digest_of(encode(content)),
        content=content,
        created_at_s=0.0,
    )


@asynccontextmanager
async def engine_on(
    folder: Path,
    cache: FolderCache,
    *,
    keep: bool = False,
    settings: LocalSettings | None = None,
    changed: Callable[[], None] = lambda: None,
) -> AsyncIterator[LocalEngine]:
    """Run an engine, and end its replicas afterwards unless they are to be kept."""
    engine = LocalEngine(SystemClock(), "node-1", folder, cache, settings, changed)
    await engine.open()
    running = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        await engine.shutdown(keep=keep)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def replica_of(engine: Engine, replica: str) -> Replica:
    return next(found for found in await engine.observe() if found.id == replica)


async def in_state(
    engine: Engine, replica: str, *states: ReplicaState, within_s: float = 15.0
) -> Replica:
    """Return the replica as it is once it is in one of these states."""
    found: list[Replica] = []

    async def there() -> bool:
        seen = await engine.observe()
        found[:] = [one for one in seen if one.id == replica and one.state in states]
        return bool(found)

    await eventually(there, within_s, f"{replica} never was in {states}")
    return found[0]


async def eventually(
    probe: Callable[[], Awaitable[bool]], within_s: float = 10.0, what: str = ""
) -> None:
    """Wait until an async probe says yes."""
    asked: Callable[[], bool | Awaitable[bool]] = probe
    await auntil(asked, within_s, what)


async def ready(engine: Engine, replica: str) -> Replica:
    return await in_state(engine, replica, ReplicaState.READY)


def get(replica: Replica, path: str) -> tuple[int, str]:
    """Send a request to the first server of a replica."""
    url = f"http://127.0.0.1:{replica.servers[0].port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def ask(replica: Replica, path: str) -> tuple[int, str]:
    return await asyncio.to_thread(get, replica, path)


async def ask_rudely(replica: Replica, path: str) -> None:
    """Send a request that ends the program, so that no answer comes."""
    with contextlib.suppress(OSError):
        await ask(replica, path)


async def told(replica: Replica) -> dict[str, object]:
    """Return what the program says of itself: env, cwd and pid."""
    _, body = await ask(replica, "/env")
    found: dict[str, object] = json.loads(body)
    return found


async def all_lines(engine: Engine, query: LogQuery) -> list[LogLine]:
    return [line async for line in engine.logs(query)]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a few hundred kilobytes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "serai-test", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with pytest.raises(OSError, match="space"), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def needs_root() -> None:
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("mounting a small file system needs root")
