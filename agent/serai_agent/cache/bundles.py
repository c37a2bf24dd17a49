"""Bundles of a node: files fetched once, checked, laid out read-only, shared by versions."""

import asyncio
import contextlib
import errno
import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from serai import wire
from serai.bundle import MAX_MANIFEST_BYTES, BundleFile, Manifest, check_manifest
from serai.cache_names import BUNDLES, MANIFEST_SUFFIX
from serai.clock import Clock
from serai.errors import ConfigError, SeraiError, ungrouped
from serai.model import digest_of
from serai_agent.cache.disk import (
    UNFINISHED,
    disk_problem,
    in_place,
    remove,
    remove_unfinished,
    size_bytes,
)
from serai_agent.cache.fetch import Fetch, fetch_whole
from serai_agent.cache.prune import Bounds, Kept, to_remove
from serai_agent.cache.settings import CacheSettings

UNFINISHED_KEPT_S = 86_400.0
UNTOUCHED_NS = 315_532_800 * 10**9
"""The time of every file of a bundle (1980, the earliest that zip knows): a write changes it."""


class BundleCache:
    """Lays bundles out below a folder; files with the same content are one file on the disk."""

    def __init__(
        self, clock: Clock, folder: Path, fetch: Fetch, settings: CacheSettings | None = None
    ) -> None:
        self._clock = clock
        self._trees = folder / BUNDLES
        self._files = folder / "files"
        self._fetch = fetch
        self._settings = settings or CacheSettings()
        self._laying: dict[str, asyncio.Lock] = {}
        self._fetching: dict[str, asyncio.Lock] = {}

    async def open(self) -> None:
        """Remove what a crash left half fetched; nobody else may use the folder now."""
        for folder in (self._trees, self._files):
            await asyncio.to_thread(remove_unfinished, folder, 0.0, math.inf)

    async def ensure(self, digest: str) -> Path:
        """Return the folder of a bundle.

        Raises ConfigError or Refused for a bundle that is damaged or would leave its folder,
        Unavailable when the store or the disk does not allow it now.
        """
        tree = self._trees / digest
        async with self._laying.setdefault(digest, asyncio.Lock()):
            try:
                self._trees.mkdir(parents=True, exist_ok=True)
                self._files.mkdir(parents=True, exist_ok=True)
                if not await asyncio.to_thread(is_whole, tree, digest):
                    await self._lay_out(digest, tree)
                os.utime(_manifest(tree))
            except OSError as error:
                raise disk_problem(error, self._trees) from error
        return tree

    async def _lay_out(self, digest: str, tree: Path) -> None:
        raw = await fetch_whole(self._fetch, digest, MAX_MANIFEST_BYTES, "bundle's manifest")
        manifest = wire.decode(raw, Manifest)
        check_manifest(manifest)
        _manifest(tree).unlink(missing_ok=True)
        slots = asyncio.Semaphore(self._settings.fetches_at_once)

        async def bring(file: BundleFile) -> None:
            async with slots:
                await self._bring(file)

        missing = {_kept_name(f): f for f in manifest.files if not self._has(f)}
        with ungrouped(SeraiError, OSError):
            async with asyncio.TaskGroup() as group:
                for file in missing.values():
                    group.create_task(bring(file))
        await asyncio.to_thread(self._link, manifest, tree)
        fresh = tree.with_name(f".{digest}.new")
        fresh.write_bytes(raw)
        fresh.rename(_manifest(tree))

    def _has(self, file: BundleFile) -> bool:
        try:
            found = (self._files / _kept_name(file)).lstat()
        except OSError:
            return False
        return found.st_size == file.size_bytes and found.st_mtime_ns == UNTOUCHED_NS

    async def _bring(self, file: BundleFile) -> None:
        """Fetch one file into the store of files, whole and checked or not at all."""
        name = _kept_name(file)
        async with self._fetching.setdefault(name, asyncio.Lock()):
            if not self._has(file):
                fd, part = tempfile.mkstemp(prefix=UNFINISHED, dir=self._files)
                try:
                    await self._copy(file, fd)
                    os.chmod(part, 0o555 if file.executable else 0o444)
                    os.utime(part, ns=(UNTOUCHED_NS, UNTOUCHED_NS))
                    os.replace(part, self._files / name)
                finally:
                    os.close(fd)
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(part)
        self._fetching.pop(name, None)

    async def _copy(self, file: BundleFile, fd: int) -> None:
        hashing, size = hashlib.sha256(), 0
        async for chunk in self._fetch.get(file.digest):
            size += len(chunk)
            if size > file.size_bytes:
                break
            hashing.update(chunk)
            await asyncio.to_thread(_write_all, fd, chunk)
        if size != file.size_bytes or hashing.hexdigest() != file.digest:
            raise ConfigError(f"{file.path} is damaged in the store; deploy the API again")

    def _link(self, manifest: Manifest, tree: Path) -> None:
        with in_place(tree) as fresh:
            made: set[Path] = {fresh}
            for file in manifest.files:
                target = fresh / file.path
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                _link_or_copy(self._files / _kept_name(file), target)
            for parent, _, _ in os.walk(fresh):
                os.chmod(parent, 0o555)

    async def prune(self, in_use: Collection[str]) -> None:
        """Remove bundles beyond the bound, the longest unused first, then files of none."""
        keys = {*in_use, *(d for d, lock in self._laying.items() if lock.locked())}
        bounds = Bounds(self._settings.bundles_bytes, self._settings.kept_s)
        now_s = self._clock.wall()
        await asyncio.to_thread(_prune, self._trees, self._files, keys, bounds, now_s)


def is_whole(tree: Path, digest: str) -> bool:
    """Say whether a bundle lies there as its manifest says, untouched; for a thread."""
    try:
        raw = _manifest(tree).read_bytes()
        manifest = wire.decode(raw, Manifest)
        if digest_of(raw) != digest:
            return False
        for file in manifest.files:
            found = (tree / file.path).lstat()
            if found.st_size != file.size_bytes or found.st_mtime_ns != UNTOUCHED_NS:
                return False
    except (OSError, ConfigError):
        return False
    return sum(len(names) for _, _, names in os.walk(tree)) == len(manifest.files)


def _manifest(tree: Path) -> Path:
    return tree.with_name(tree.name + MANIFEST_SUFFIX)


def _kept_name(file: BundleFile) -> str:
    return file.digest + (".x" if file.executable else "")


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _link_or_copy(kept: Path, target: Path) -> None:
    try:
        os.link(kept, target)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EXDEV):
            raise
        shutil.copy2(kept, target)  # a file may have only so many names (an empty __init__.py)
        os.utime(target, ns=(UNTOUCHED_NS, UNTOUCHED_NS))


def _prune(trees: Path, files: Path, in_use: Collection[str], bounds: Bounds, now_s: float) -> None:
    kept = []
    for marker in trees.glob(f"[!.]*{MANIFEST_SUFFIX}"):
        tree = marker.with_suffix("")
        with contextlib.suppress(OSError):
            kept.append(Kept(tree.name, size_bytes(tree), marker.stat().st_mtime))
    for key in to_remove(kept, in_use, bounds, now_s):
        _manifest(trees / key).unlink(missing_ok=True)
        remove(trees / key)
    for folder in (trees, files):
        remove_unfinished(folder, UNFINISHED_KEPT_S, now_s)
    for path in files.glob("[!.]*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_nlink == 1 and now_s - found.st_ctime > bounds.min_age_s:
                path.unlink()
