"""Python environments on the node: built once per lock, shared read-only by all replicas."""

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uv

from serai.errors import ConfigError, Refused, Unavailable
from serai.model import digest_of
from serai_agent.cache.runtime import runtime_digest, runtime_files

BUILD_LIMIT_S = 1800.0
MARKER = ".serai-complete"
OUTPUT_LINES = 12


class Environments:
    """Builds environments with uv below a folder; one build at a time for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}
        folder.mkdir(parents=True, exist_ok=True)

    async def ensure(self, lock: bytes, python: str) -> Path:
        """Return the interpreter of the environment for a lock and a Python version.

        Raises Refused when it can never be built (no such Python, a hash that does not match),
        Unavailable when trying again may help (no disk, an index that does not answer).
        """
        key = digest_of(b"\0".join([lock, python.encode(), runtime_digest().encode()]))[:32]
        home = self._folder / key
        async with self._locks.setdefault(key, asyncio.Lock()):
            if not (home / MARKER).exists():
                async with _exclusive(self._folder / f"{key}.lock"):
                    if not (home / MARKER).exists():
                        await self._build(home, lock, python)
        with contextlib.suppress(OSError):
            os.utime(home / MARKER)
        return home / "bin" / "python"

    async def _build(self, home: Path, lock: bytes, python: str) -> None:
        shutil.rmtree(home, ignore_errors=True)
        try:
            await self._uv("venv", "--no-project", "--no-config", "--python", python, str(home))
            if lock.strip():
                (home / "lock.txt").write_bytes(lock)
                await self._uv(
                    *("pip", "install", "--no-config", "--no-deps", "--require-hashes"),
                    *("--python", str(home / "bin" / "python"), "-r", str(home / "lock.txt")),
                )
            await asyncio.to_thread(_add_runtime, home)
        except OSError as error:
            shutil.rmtree(home, ignore_errors=True)
            raise Unavailable(f"cannot build the environment: {error}") from error
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise

    async def _uv(self, *arguments: str) -> None:
        environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
        process = await asyncio.create_subprocess_exec(
            *(uv.find_uv_bin(), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
        )
        try:
            async with asyncio.timeout(BUILD_LIMIT_S):
                output, _ = await process.communicate()
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            if isinstance(error, TimeoutError):
                raise Unavailable(f"building took over {BUILD_LIMIT_S / 60:.0f} min") from error
            raise
        if process.returncode:
            raise _in_words(output.decode("utf-8", "replace"))


def _in_words(output: str) -> ConfigError | Refused | Unavailable:
    told = "\n".join(output.strip().splitlines()[-OUTPUT_LINES:])
    if "No interpreter found" in output or "no interpreter found" in output:
        return Refused(f"this node lacks the Python that was asked for: {told}", "no_python")
    if "No space left" in output:
        return Unavailable("the disk is full: free some space; the build is tried again")
    if "error sending request" in output or "timed out" in output or "dns error" in output:
        return Unavailable(f"the package index does not answer: {told}")
    return Refused(f"the environment cannot be built: {told}", "environment")


def _add_runtime(home: Path) -> None:
    """Put the runtime beside the packages and mark the environment complete, last of all."""
    site = next(home.glob("lib/python*/site-packages"))
    target = site / "serai_runtime"
    target.mkdir()
    for path in runtime_files():
        shutil.copyfile(path, target / path.name)
    (home / MARKER).touch()


@asynccontextmanager
async def _exclusive(path: Path) -> AsyncIterator[None]:
    """Hold a file lock: another process on this node may build the same thing."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        await asyncio.to_thread(fcntl.flock, fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
