"""Bundles on the node: files fetched once, checked, laid out read-only, shared by versions."""

import asyncio
import hashlib
import os
import shutil
from pathlib import Path

from serai import wire
from serai.blobs import Blobs, read_all
from serai.bundle import MAX_MANIFEST_BYTES, BundleFile, Manifest, check_manifest
from serai.errors import Refused, Unavailable

MARKER_SUFFIX = ".complete"
PARALLEL = 8


class Bundles:
    """Lays bundles out below a folder; files with the same content are hard links."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self._trees = folder / "trees"
        self._files = folder / "files"
        self._blobs = blobs
        self._locks: dict[str, asyncio.Lock] = {}
        for path in (self._trees, self._files):
            path.mkdir(parents=True, exist_ok=True)

    async def ensure(self, digest: str) -> Path:
        """Return the folder of a bundle; Refused for a bad one, Unavailable without disk."""
        tree = self._trees / digest
        marker = self._trees / (digest + MARKER_SUFFIX)
        async with self._locks.setdefault(digest, asyncio.Lock()):
            if not marker.exists():
                try:
                    await self._lay_out(digest, tree)
                    marker.touch()
                except OSError as error:
                    shutil.rmtree(tree, ignore_errors=True)
                    raise Unavailable(f"cannot lay out the bundle: {error}") from error
        return tree

    async def _lay_out(self, digest: str, tree: Path) -> None:
        shutil.rmtree(tree, ignore_errors=True)
        raw = await read_all(self._blobs, digest, MAX_MANIFEST_BYTES)
        if hashlib.sha256(raw).hexdigest() != digest:
            raise Refused(f"bundle {digest} is damaged in the store; deploy it again", "damaged")
        manifest = wire.decode(raw, Manifest)
        check_manifest(manifest)
        await asyncio.to_thread(tree.mkdir)
        slots = asyncio.Semaphore(PARALLEL)

        async def place(file: BundleFile) -> None:
            async with slots:
                await self._place(file, tree)

        try:
            async with asyncio.TaskGroup() as group:
                for file in manifest.files:
                    group.create_task(place(file))
        except* (Refused, Unavailable, OSError) as errors:
            shutil.rmtree(tree, ignore_errors=True)
            raise errors.exceptions[0] from None

    async def _place(self, file: BundleFile, tree: Path) -> None:
        kept = self._files / f"{file.digest}{'x' if file.executable else ''}"
        if not kept.exists():
            await self._fetch(file, kept)
        target = tree / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(kept, target)

    async def _fetch(self, file: BundleFile, kept: Path) -> None:
        hashing = hashlib.sha256()
        part = kept.with_name(f"{kept.name}.{os.getpid()}.{id(file)}")
        try:
            with part.open("wb") as out:
                async for chunk in self._blobs.get(file.digest):
                    hashing.update(chunk)
                    out.write(chunk)
            if hashing.hexdigest() != file.digest:
                raise Refused(f"{file.path} is damaged in the store; deploy it again", "damaged")
            part.chmod(0o555 if file.executable else 0o444)
            part.replace(kept)
        finally:
            part.unlink(missing_ok=True)
