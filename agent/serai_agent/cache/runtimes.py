"""The runtimes that versions were made with: each fetched once, checked, kept as one file.

A version names its runtime by digest. On a node with an older or a newer release of Serai its
replicas still start with the very one that they were tested with.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from serai.clock import Clock
from serai.errors import ConfigError, Refused
from serai.model import digest_of
from serai.runtime_code import read_runtime, runtime_blob, runtime_digest
from serai_agent.cache.disk import UNFINISHED
from serai_agent.cache.fetch import Fetch, fetch_whole

RUNTIMES = "runtimes"
SUFFIX = ".blob"
MAX_RUNTIME_BYTES = 16 * 2**20


class RuntimeCache:
    """Keeps runtimes below a folder, each in a file that is called after its digest."""

    def __init__(self, clock: Clock, folder: Path, fetch: Fetch) -> None:
        self._clock = clock
        self._folder = folder / RUNTIMES
        self._fetch = fetch

    async def files(self, digest: str) -> dict[str, bytes]:
        """Return the files of a runtime by name.

        Raises ConfigError when nobody has it or it is damaged, Unavailable when trying again may
        help, OSError when the disk refuses.
        """
        blob = await asyncio.to_thread(self._kept, digest)
        if blob is not None:
            return read_runtime(blob)
        blob = await asyncio.to_thread(_installed, digest) or await self._fetched(digest)
        files = read_runtime(blob)
        await asyncio.to_thread(self._keep, digest, blob)
        return files

    def _kept(self, digest: str) -> bytes | None:
        path = self._path(digest)
        with contextlib.suppress(FileNotFoundError):
            blob = path.read_bytes()
            if digest_of(blob) == digest:
                os.utime(path)
                return blob
        return None

    async def _fetched(self, digest: str) -> bytes:
        try:
            return await fetch_whole(self._fetch, digest, MAX_RUNTIME_BYTES, "runtime")
        except Refused as error:
            if error.code != "no_blob":
                raise
            raise ConfigError(
                f"this version was made with another release of Serai, whose runtime {digest[:12]} "
                "neither this node nor the scheduler has; deploy the API again"
            ) from error

    def _keep(self, digest: str, blob: bytes) -> None:
        """Put a runtime in place whole: two who fetch it at once write the same."""
        self._folder.mkdir(parents=True, exist_ok=True)
        fd, part = tempfile.mkstemp(prefix=UNFINISHED, dir=self._folder)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(blob)
            os.replace(part, self._path(digest))
        except OSError:
            with contextlib.suppress(OSError):  # it may not hide why; pruning takes what stays
                os.unlink(part)
            raise

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}{SUFFIX}"

    def prune(self, in_use: Collection[str], kept_s: float) -> None:
        """Remove all that is not in use and was not for `kept_s`; for a thread."""
        kept, now_s = {self._path(digest) for digest in in_use}, self._clock.wall()
        for path in self._folder.glob("*"):
            with contextlib.suppress(OSError):
                if path not in kept and now_s - path.lstat().st_mtime >= kept_s:
                    path.unlink()


def _installed(digest: str) -> bytes | None:
    """Return the installed runtime if it is this one; its files change under us in an update."""
    if digest != runtime_digest():
        return None
    blob = runtime_blob()
    return blob if digest_of(blob) == digest else None
