"""Blobs on an object store (S3-compatible, or a folder), through obstore.

A blob is written under its final name only when its last byte was checked: small ones in one go,
larger ones as a multipart upload that is dropped on any error.
"""

import asyncio
import logging
import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from serai.blobs import (
    CHUNK_BYTES,
    CheckedBlob,
    DiskFull,
    StoredBlob,
    check_digest,
    damaged_blob,
    missing_blob,
    put_one_by_one,
)
from serai.clock import Clock
from serai.errors import ConfigError, Refused, Unavailable

log = logging.getLogger(__name__)

WHOLE_MAX_BYTES = 8 * 2**20
"""Up to this size a blob is held in memory and written in one go."""
PARALLEL = 64
DEADLINE_S = 60.0
LISTING_PAGE = 1000
ABANDONED_AFTER_S = 24 * 3600.0
"""An upload that has not grown for so long is nobody's any more."""
FILE_TIME_GRAIN_S = 0.001
"""What a file's time may be off by for having been a number with a point."""
NO_ROOM = ("os error 28", "No space left", "os error 122", "Disk quota")


def open_blobs(url: str, clock: Clock) -> "ObjectBlobs":
    """Return the blobs at `url`: a folder's path, `file://…`, or `s3://bucket/prefix`.

    Credentials come from the environment, as is usual for the store. Raises ConfigError for a URL
    that cannot be used, Unavailable for a folder that cannot be made.
    """
    if url.startswith("file://") or "://" not in url:
        return FolderBlobs(Path(url.removeprefix("file://")), clock)
    try:
        return ObjectBlobs(from_url(url), clock, url)
    except (BaseError, ValueError) as error:
        raise ConfigError(f"the blob store {url} cannot be used: {_first_line(error)}") from error


class ObjectBlobs:
    """Blobs in an object store; `where` names it in messages."""

    def __init__(self, store: Any, clock: Clock, where: str) -> None:
        self._store = store
        self._clock = clock
        self._where = where
        self._asked_at_s: dict[str, float] = {}

    async def has(self, digests: Sequence[str]) -> frozenset[str]:
        for digest in digests:
            check_digest(digest)
        turn = asyncio.Semaphore(PARALLEL)

        async def look(digest: str) -> bool:
            async with turn:
                return await self._head(digest) is not None

        found = await asyncio.gather(*(look(digest) for digest in digests))
        present = frozenset(d for d, there in zip(digests, found, strict=True) if there)
        self._asked_at_s.update(dict.fromkeys(present, self._clock.wall()))
        return present

    async def put(self, digest: str, stream: AsyncIterator[bytes], size_bytes: int) -> None:
        check_digest(digest)
        checked = CheckedBlob(digest, size_bytes)
        with self._translated():
            if size_bytes <= WHOLE_MAX_BYTES:
                await self._put_whole(digest, stream, checked)
            else:
                await self._put_long(digest, stream, checked)

    async def _put_whole(
        self, digest: str, stream: AsyncIterator[bytes], checked: CheckedBlob
    ) -> None:
        pieces = []
        async for piece in stream:
            checked.take(piece)
            pieces.append(piece)
        checked.finish()
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        async with asyncio.timeout(DEADLINE_S):
            await obstore.put_async(self._store, key_of(digest), content, use_multipart=False)

    async def _put_long(
        self, digest: str, stream: AsyncIterator[bytes], checked: CheckedBlob
    ) -> None:
        # A writer that is let go without `close` is an upload that never happened; leaving it as
        # a context would close it, and so keep what failed. An error's traceback would hold it.
        writer = obstore.open_writer_async(self._store, key_of(digest))
        try:
            async for piece in stream:
                checked.take(piece)
                async with asyncio.timeout(DEADLINE_S):
                    await writer.write(piece)
            checked.finish()
            async with asyncio.timeout(DEADLINE_S):
                await writer.close()
        finally:
            del writer

    async def put_each(self, contents: AsyncIterator[tuple[str, bytes]]) -> None:
        await put_one_by_one(self, contents)

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        check_digest(digest)
        checked = CheckedBlob(digest, None)
        async with aclosing(self._stream(digest)) as pieces:
            async for piece in pieces:
                checked.take(piece)
                yield piece
        try:
            checked.finish()
        except Refused as error:
            await self.delete([digest])
            raise damaged_blob(digest) from error

    async def _stream(self, digest: str) -> AsyncGenerator[bytes, None]:
        try:
            with self._translated():
                async with asyncio.timeout(DEADLINE_S):
                    found = await obstore.get_async(self._store, key_of(digest))
                stream = found.stream(min_chunk_size=CHUNK_BYTES)
                while (piece := await self._next(stream)) is not None:
                    yield piece
        except FileNotFoundError as error:
            raise missing_blob(digest) from error

    async def _next(self, stream: Any) -> bytes | None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return bytes(await anext(stream))
        except StopAsyncIteration:
            return None

    async def size(self, digest: str) -> int:
        check_digest(digest)
        if (meta := await self._head(digest)) is None:
            raise missing_blob(digest)
        return int(meta["size"])

    async def _head(self, digest: str) -> Any:
        try:
            with self._translated():
                async with asyncio.timeout(DEADLINE_S):
                    return await obstore.head_async(self._store, key_of(digest))
        except FileNotFoundError:
            return None

    async def delete(self, digests: Sequence[str], used_until_s: float = math.inf) -> None:
        turn = asyncio.Semaphore(PARALLEL)

        async def remove(digest: str) -> None:
            async with turn:
                try:
                    with self._translated():
                        async with asyncio.timeout(DEADLINE_S):
                            await obstore.delete_async(self._store, key_of(digest))
                except FileNotFoundError:
                    return

        for digest in digests:
            check_digest(digest)
        unused = [d for d in digests if self._asked_at_s.get(d, 0.0) <= used_until_s]
        for digest in unused:
            self._asked_at_s.pop(digest, None)
        await asyncio.gather(*(remove(digest) for digest in unused))

    async def list(self) -> AsyncIterator[StoredBlob]:
        stream = obstore.list(self._store, chunk_size=LISTING_PAGE)
        with self._translated():
            while (page := await self._next_page(stream)) is not None:
                for meta in page:
                    if (digest := digest_of_key(meta["path"])) is not None:
                        yield self._stored(digest, meta)

    async def _next_page(self, stream: Any) -> Any:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await anext(stream)
        except StopAsyncIteration:
            return None

    def _stored(self, digest: str, meta: Any) -> StoredBlob:
        used_at_s = max(meta["last_modified"].timestamp(), self._asked_at_s.get(digest, 0.0))
        return StoredBlob(digest=digest, size_bytes=int(meta["size"]), used_at_s=used_at_s)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the store's errors into Serai's; what is not there stays FileNotFoundError."""
        try:
            yield
        except FileNotFoundError:
            raise
        except TimeoutError as error:
            raise Unavailable(
                f"the blob store {self._where} did not answer within {DEADLINE_S:.0f} s"
            ) from error
        except (BaseError, OSError, ValueError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> Unavailable:
        why = _first_line(error)
        if any(sign in why for sign in NO_ROOM):
            return DiskFull(
                f"the disk that holds the blobs ({self._where}) is full; free some space there "
                "and deploy again"
            )
        return Unavailable(f"the blob store {self._where} failed: {why}")


class FolderBlobs(ObjectBlobs):
    """Blobs in a folder, whose files answer questions faster than the store's own calls."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Open the folder, made when it is missing; Unavailable when that cannot be done."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            store = LocalStore(folder)
        except (OSError, BaseError) as error:
            raise Unavailable(
                f"the folder {folder} for blobs cannot be used: {_first_line(error)}"
            ) from error
        super().__init__(store, clock, str(folder))
        self._folder = folder

    def path_of(self, digest: str) -> Path:
        """Return where the blob lies, or would lie; Refused when `digest` is none."""
        check_digest(digest)
        return self._folder / key_of(digest)

    async def has(self, digests: Sequence[str]) -> frozenset[str]:
        for digest in digests:
            check_digest(digest)
        paths = {digest: f"{self._folder}/{key_of(digest)}" for digest in digests}
        now_s = self._clock.wall()
        with self._translated():
            return await asyncio.to_thread(_touched, paths, now_s)

    async def delete(self, digests: Sequence[str], used_until_s: float = math.inf) -> None:
        paths = {digest: self.path_of(digest) for digest in digests}
        if used_until_s < math.inf:
            with self._translated():
                digests = await asyncio.to_thread(_unused, paths, used_until_s)
        await super().delete(digests)

    async def list(self) -> AsyncIterator[StoredBlob]:
        """As the port says; what uploads left that a crash cut off is removed on the way.

        Whoever collects garbage lists, and so every folder is swept, those of other schedulers too.
        """
        before_s = self._clock.wall() - ABANDONED_AFTER_S
        with self._translated():
            removed = await asyncio.to_thread(_sweep, self._folder, before_s)
        if removed:
            log.info("unfinished uploads removed", extra={"count": removed, "where": self._where})
        async for blob in super().list():
            yield blob


def _touched(paths: dict[str, str], now_s: float) -> frozenset[str]:
    found = set()
    for digest, path in paths.items():
        try:
            os.utime(path, (now_s, now_s))
        except FileNotFoundError:
            continue
        found.add(digest)
    return frozenset(found)


def _unused(paths: dict[str, Path], until_s: float) -> list[str]:
    found = []
    for digest, path in paths.items():
        try:
            used_at_s = path.stat().st_mtime
        except FileNotFoundError:
            continue
        if used_at_s <= until_s + FILE_TIME_GRAIN_S:
            found.append(digest)
    return found


def _sweep(folder: Path, before_s: float) -> int:
    removed = 0
    for path in folder.glob("*/*#*"):
        try:
            if path.stat().st_mtime < before_s:
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue
    return removed


def key_of(digest: str) -> str:
    """Return the name of a blob in its store: 256 folders keep each one short."""
    return f"{digest[:2]}/{digest}"


def digest_of_key(key: str) -> str | None:
    """Return the digest that a name in the store stands for, None for a file of others."""
    folder, _, digest = key.rpartition("/")
    is_blob = len(digest) == 64 and folder == digest[:2]
    return digest if is_blob else None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]
