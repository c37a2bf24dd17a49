"""Python environments of a node: built once per lock, shared read-only by all replicas."""

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import math
import os
import platform
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from serai import wire
from serai.cache_names import (
    ENVIRONMENT_MARKER,
    ENVIRONMENTS,
    environment_name,
    image_interpreter,
)
from serai.clock import Clock
from serai.errors import ConfigError
from serai.model import Value
from serai.runtime_code import runtime_digest
from serai.tasks import cancelled
from serai_agent.cache import for_image, uv_tool
from serai_agent.cache.disk import (
    disk_problem,
    fresh_folder,
    put_in_place,
    readable_by_all,
    remove,
    remove_unfinished,
    size_bytes,
)
from serai_agent.cache.fetch import Fetch, fetch_whole
from serai_agent.cache.prune import Bounds, Kept, to_remove
from serai_agent.cache.runtimes import RuntimeCache
from serai_agent.cache.settings import CacheSettings

log = logging.getLogger(__name__)

LOCK_PERIOD_S = 0.2
MAX_LOCK_BYTES = 8 * 2**20
UNFINISHED_KEPT_S = 86_400.0
"""Longer than any build may last."""


class Recipe(Value):
    """What an environment is made from; `lock` and `runtime` are digests.

    `interpreter` is the path of its Python in an image, "" for one of this node's.
    """

    lock: str
    python: str
    runtime: str
    platform: str
    interpreter: str = ""

    @property
    def key(self) -> str:
        """Return the name of its folder."""
        parts = (self.lock, self.python, self.runtime, self.platform)
        return environment_name(*parts, self.interpreter)


class Marker(Value):
    """Written last into an environment: its recipe, and what its files looked like then."""

    recipe: Recipe
    files: str


def recipe_of(lock_digest: str, python: str, runtime: str = "") -> Recipe:
    """Return the recipe for this machine; the runtime is the installed one unless named."""
    here = f"{platform.system()}-{platform.machine()}-{'-'.join(platform.libc_ver())}".lower()
    return Recipe(
        lock=lock_digest, python=python, runtime=runtime or runtime_digest(), platform=here
    )


def image_recipe(lock_digest: str, python: str, runtime: str, platform: str) -> Recipe:
    """Return the recipe for an image of a platform; the runtime as in `recipe_of`."""
    return Recipe(
        lock=lock_digest,
        python=python,
        runtime=runtime or runtime_digest(),
        platform=platform,
        interpreter=image_interpreter(python),
    )


class EnvironmentCache:
    """Builds environments below a folder with uv; two callers at once wait for one build."""

    def __init__(
        self, clock: Clock, folder: Path, fetch: Fetch, settings: CacheSettings | None = None
    ) -> None:
        self._clock = clock
        self._folder = folder / ENVIRONMENTS
        self._fetch = fetch
        self._runtimes = RuntimeCache(clock, folder, fetch)
        self._settings = settings or CacheSettings()
        self._building: dict[str, asyncio.Task[Path]] = {}
        self.builds = 0

    async def open(self) -> None:
        """End and remove what a crash left half built; nobody else may use the folder now."""
        ended = await asyncio.to_thread(uv_tool.end_leftovers, self._folder)
        if ended:
            log.warning("a build outlived a crash: ended", extra={"processes": ended})
        await asyncio.to_thread(remove_unfinished, self._folder, 0.0, math.inf)

    async def ensure(self, recipe: Recipe) -> Path:
        """Return the folder of an environment, built now if need be.

        Raises ConfigError when it cannot be built from this lock on this node, Refused when there
        is no such lock, Unavailable when trying again may help. A build goes on when its callers
        have given up.
        """
        task = self._building.get(recipe.key)
        if task is None:
            task = asyncio.create_task(self._ensure(recipe))
            self._building[recipe.key] = task
            task.add_done_callback(lambda done: self._built(recipe.key, done))
        return await asyncio.shield(task)

    def _built(self, key: str, task: asyncio.Task[Path]) -> None:
        self._building.pop(key, None)
        if not task.cancelled():
            task.exception()  # heard by those who still wait; nobody may

    async def close(self) -> None:
        """End the builds that are under way."""
        await cancelled(*self._building.values())

    async def _ensure(self, recipe: Recipe) -> Path:
        home = self._folder / recipe.key
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if await asyncio.to_thread(problem_of, home, recipe) is not None:
                async with self._alone(recipe.key):
                    if await asyncio.to_thread(problem_of, home, recipe) is not None:
                        await self._build(home, recipe)
            os.utime(home / ENVIRONMENT_MARKER)
        except OSError as error:
            raise disk_problem(error, self._folder) from error
        return home

    async def _build(self, home: Path, recipe: Recipe) -> None:
        lock = await fetch_whole(self._fetch, recipe.lock, MAX_LOCK_BYTES, "lock")
        runtime = await self._runtimes.files(recipe.runtime)
        limit_s = self._settings.build_limit_s
        self.builds += 1
        fresh = fresh_folder(home)
        try:
            (fresh / "lock.txt").write_bytes(lock)
            if recipe.interpreter:
                await for_image.build(fresh, recipe.python, recipe.platform, limit_s)
            else:
                await uv_tool.make_environment(fresh, recipe.python, limit_s)
                await uv_tool.install(fresh, fresh / "lock.txt", limit_s)
            await asyncio.to_thread(_finish, fresh, runtime, recipe)
            await asyncio.to_thread(put_in_place, fresh, home)
        except BaseException:  # a build that was ended leaves nothing either
            await asyncio.to_thread(remove, fresh)
            raise

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """Hold a lock against other processes of this node, without blocking a thread."""
        fd = os.open(self._folder / f".{key}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await self._clock.sleep(LOCK_PERIOD_S)
            yield
        finally:
            os.close(fd)

    async def prune(self, in_use: Collection[Recipe]) -> None:
        """Remove environments beyond the bound, the longest unused first; and old runtimes."""
        keys = {recipe.key for recipe in in_use} | set(self._building)
        bounds = Bounds(self._settings.environments_bytes, self._settings.kept_s)
        await asyncio.to_thread(_prune, self._folder, keys, bounds, self._clock.wall())
        runtimes = {recipe.runtime for recipe in in_use}
        await asyncio.to_thread(self._runtimes.prune, runtimes, bounds.min_age_s)


def problem_of(home: Path, recipe: Recipe) -> str | None:
    """Say what is wrong with an environment, None when it is whole; for a thread."""
    try:
        marker = wire.decode((home / ENVIRONMENT_MARKER).read_bytes(), Marker)
    except (OSError, ConfigError):
        return "it was not finished"
    if marker.recipe != recipe:
        return "it was built from something else"
    if not _has_python(home, recipe.interpreter):
        return "its Python is gone"
    return None if marker.files == fingerprint(home) else "its files were changed"


def _has_python(home: Path, interpreter: str) -> bool:
    """Say whether its Python is there; that of an image cannot be seen from the node."""
    python = home / "bin" / "python"
    if interpreter:
        return python.is_symlink() and os.readlink(python) == interpreter
    return os.access(python, os.X_OK)


def fingerprint(home: Path) -> str:
    """Return one digest over path, size and time of all files; compiled ones may come and go."""
    hashing = hashlib.sha256()
    for parent, folders, names in os.walk(home / "lib"):
        folders.sort()
        with contextlib.suppress(ValueError):
            folders.remove("__pycache__")
        inside = os.path.relpath(parent, home)
        for name in sorted(names):
            found = os.lstat(f"{parent}/{name}")
            hashing.update(f"{inside}/{name}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return hashing.hexdigest()


def _finish(home: Path, runtime: Mapping[str, bytes], recipe: Recipe) -> None:
    package = next(home.glob("lib/python*/site-packages")) / "serai_runtime"
    package.mkdir()
    for name, content in runtime.items():
        (package / name).write_bytes(content)
    readable_by_all(home)
    marker = Marker(recipe=recipe, files=fingerprint(home))
    (home / ENVIRONMENT_MARKER).write_bytes(msgspec.json.encode(marker))


def _prune(folder: Path, in_use: Collection[str], bounds: Bounds, now_s: float) -> None:
    remove_unfinished(folder, UNFINISHED_KEPT_S, now_s)
    kept = []
    for home in folder.glob("[!.]*"):
        with contextlib.suppress(OSError):
            used_at_s = (home / ENVIRONMENT_MARKER).stat().st_mtime
            kept.append(Kept(home.name, size_bytes(home), used_at_s))
    for key in to_remove(kept, in_use, bounds, now_s):
        # Removed first, so that half of it is never used.
        (folder / key / ENVIRONMENT_MARKER).unlink(missing_ok=True)
        remove(folder / key)
