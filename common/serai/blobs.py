"""The port to stored content: bytes named by their SHA-256, written whole or not at all.

The scheduler stores what the CLI uploads and the agent fetches it; the limits and the layout of
the HTTP bodies that both ends must agree on stand here too.
"""

import hashlib
import math
import re
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Annotated, Protocol

import msgspec

from serai.bundle import MAX_FILE_BYTES, Digest
from serai.errors import Refused, Unavailable
from serai.model import Value

PAGE_DIGESTS = 10_000
"""How many digests one question about missing blobs may name."""
BATCH_BLOB_MAX_BYTES = 4 * 2**20
"""A blob up to this size may travel in a batch with others."""
BATCH_MAX_BYTES = 16 * 2**20
BATCH_MAX_BLOBS = 2_000
PART_BYTES = 16 * 2**20
"""A file above twice this size is uploaded in parts of it, so that a broken line costs one."""
MAX_PARTS = MAX_FILE_BYTES // PART_BYTES
CHUNK_BYTES = 2**20
UPLOAD_MIN_AGE_S = 3600.0
"""Garbage collection leaves younger blobs alone: their deploy may still be under way."""
DELETED_AT_ONCE = 200
"""How many blobs are removed before a deploy that waits has its turn."""

BATCH_RECORD = struct.Struct(">32sQ")
"""What stands before each blob of a batch: its digest and its size in bytes."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class DiskFull(Unavailable):
    """There is no room left where blobs are stored."""


class StoredBlob(Value):
    """A blob as it lies in the store; `used_at_s` is when it was last written or asked about."""

    digest: str
    size_bytes: int
    used_at_s: float


class Composition(Value):
    """The parts, in order, that make up a blob of `size_bytes`."""

    parts: Annotated[tuple[Digest, ...], msgspec.Meta(min_length=1, max_length=MAX_PARTS)]
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]


class Blobs(Protocol):
    """Where content lies: a folder on one machine, in a cluster copies on a majority of its
    schedulers or an S3-compatible store.

    Every method raises Unavailable when the store does not answer, DiskFull when it has no room.
    """

    async def has(self, digests: Sequence[str]) -> frozenset[str]:
        """Return those that are stored, and count them as used now.

        Being used keeps a blob from garbage collection while the deploy that asked goes on.
        """
        ...

    async def put(self, digest: str, stream: AsyncIterator[bytes], size_bytes: int) -> None:
        """Store a stream under its digest; what is stored already is stored again or left.

        Raises Refused with code `digest_mismatch` or `size_mismatch` when the stream is not what
        it was said to be. After any error, cancellation included, nothing is left behind.
        """
        ...

    async def put_each(self, contents: AsyncIterator[tuple[str, bytes]]) -> None:
        """Store small blobs, each under its digest, as `put` does.

        At the first error, the stream's own included, those before it stay stored.
        """
        ...

    def get(self, digest: str) -> AsyncIterator[bytes]:
        """Yield the content in pieces; Refused (`no_blob`) before the first when absent.

        The content is verified as it is read: Refused (`blob_damaged`) comes at its end, and the
        damaged blob is removed, so that the next upload mends it.
        """
        ...

    async def size(self, digest: str) -> int:
        """Return the size in bytes; Refused (`no_blob`) when absent."""
        ...

    async def delete(self, digests: Sequence[str], used_until_s: float = math.inf) -> None:
        """Remove blobs; those that are not there are no error.

        Those used after `used_until_s`, wall-clock time, stay as far as this store knows of it: who
        decided on a look that is old by now takes nothing away from others.
        """
        ...

    def list(self) -> AsyncIterator[StoredBlob]:
        """Yield every whole blob, in no order."""
        ...


class CheckedBlob:
    """Verifies a blob while it passes: `take` each piece, then `finish`."""

    def __init__(self, digest: str, size_bytes: int | None) -> None:
        self._digest = digest
        self._size_bytes = size_bytes
        self._hash = hashlib.sha256()
        self._seen_bytes = 0

    def take(self, piece: bytes) -> None:
        """Count a piece; Refused (`size_mismatch`) as soon as there is too much."""
        self._hash.update(piece)
        self._seen_bytes += len(piece)
        if self._size_bytes is not None and self._seen_bytes > self._size_bytes:
            raise self._wrong_size("more than")

    def finish(self) -> None:
        """Raise Refused when the whole is not what it was said to be."""
        if self._size_bytes is not None and self._seen_bytes != self._size_bytes:
            raise self._wrong_size(f"{self._seen_bytes} instead of")
        if (found := self._hash.hexdigest()) != self._digest:
            raise Refused(
                f"blob {self._digest[:12]}: the content has the digest {found[:12]}…; it was "
                "changed on the way or while it was read; upload it again",
                "digest_mismatch",
            )

    def _wrong_size(self, how: str) -> Refused:
        return Refused(
            f"blob {self._digest[:12]}: {how} {self._size_bytes} bytes arrived; the file was "
            "changed while it was read; upload it again",
            "size_mismatch",
        )


def check_digest(digest: str) -> None:
    """Raise Refused (`bad_digest`) unless `digest` is a SHA-256 in lower-case hexadecimal."""
    if not _DIGEST.fullmatch(digest):
        raise Refused(
            f"{digest[:80]!r} is not a SHA-256 digest of 64 lower-case hexadecimal digits",
            "bad_digest",
        )


def missing_blob(digest: str) -> Refused:
    """Return the error for a blob that is not stored."""
    return Refused(f"blob {digest} is not stored here; deploy again to upload it", "no_blob")


def damaged_blob(digest: str) -> Refused:
    """Return the error for a blob whose content is not what its name says."""
    return Refused(
        f"blob {digest} was damaged in the store and has been removed; deploy again to upload it",
        "blob_damaged",
    )


async def one_piece(data: bytes) -> AsyncIterator[bytes]:
    """Yield `data` as a stream of one piece."""
    yield data


async def put_one_by_one(blobs: Blobs, contents: AsyncIterator[tuple[str, bytes]]) -> None:
    """Do what `Blobs.put_each` promises by calls of `put`."""
    async for digest, content in contents:
        await blobs.put(digest, one_piece(content), len(content))


async def fetched(blobs: Blobs, digest: str) -> AsyncGenerator[bytes, None]:
    """Yield what `Blobs.get` does, as a generator that can be closed before its end."""
    async for piece in blobs.get(digest):
        yield piece


async def read_all(blobs: Blobs, digest: str, limit_bytes: int) -> bytes:
    """Return a small blob whole; Refused (`too_large`) above the limit."""
    data = bytearray()
    async for piece in blobs.get(digest):
        data += piece
        if len(data) > limit_bytes:
            raise Refused(
                f"blob {digest} is larger than the {limit_bytes} bytes that are allowed here",
                "blob_too_large",
            )
    return bytes(data)


def unreferenced(
    stored: Sequence[StoredBlob], referenced: Collection[str], now_s: float, min_age_s: float
) -> list[StoredBlob]:
    """Return the blobs that nothing refers to and nobody used for `min_age_s`, oldest first.

    A blob used in the future (a clock was set back) is young.
    """
    kept = frozenset(referenced)
    waste = [b for b in stored if b.digest not in kept and now_s - b.used_at_s >= min_age_s]
    return sorted(waste, key=lambda blob: (blob.used_at_s, blob.digest))


async def collect_garbage(
    blobs: Blobs,
    referenced: Collection[str],
    now_s: float,
    min_age_s: float = UPLOAD_MIN_AGE_S,
    alone: AbstractAsyncContextManager[object] | None = None,
) -> list[StoredBlob]:
    """Delete and return what nothing refers to.

    `now_s` is wall-clock time. A deploy is accepted while `alone` is held or before this begins: a
    blob that is asked about a moment before its turn stays, one that is asked about later is gone.
    `alone` is held for some blobs at a time, so that nobody waits for the end of all.
    """
    waste = unreferenced([blob async for blob in blobs.list()], referenced, now_s, min_age_s)
    for start in range(0, len(waste), DELETED_AT_ONCE):
        page = waste[start : start + DELETED_AT_ONCE]
        async with alone or nullcontext():
            await blobs.delete([blob.digest for blob in page], now_s - min_age_s)
    return waste


class MemoryBlobs:
    """Blobs that are gone with their process, for simulations and tests."""

    def __init__(self, wall: Callable[[], float], room_bytes: int | None = None) -> None:
        self._wall = wall
        self._room_bytes = room_bytes
        self._contents: dict[str, bytes] = {}
        self._used_at_s: dict[str, float] = {}

    async def has(self, digests: Sequence[str]) -> frozenset[str]:
        found = frozenset(digest for digest in digests if digest in self._contents)
        self._used_at_s.update(dict.fromkeys(found, self._wall()))
        return found

    async def put(self, digest: str, stream: AsyncIterator[bytes], size_bytes: int) -> None:
        check_digest(digest)
        checked = CheckedBlob(digest, size_bytes)
        pieces = []
        async for piece in stream:
            checked.take(piece)
            pieces.append(piece)
        checked.finish()
        self._make_room(size_bytes)
        self._contents[digest] = b"".join(pieces)
        self._used_at_s[digest] = self._wall()

    def _make_room(self, size_bytes: int) -> None:
        stored_bytes = sum(len(content) for content in self._contents.values())
        if self._room_bytes is not None and stored_bytes + size_bytes > self._room_bytes:
            raise DiskFull(f"no room left for {size_bytes} bytes; {self._room_bytes} are allowed")

    async def put_each(self, contents: AsyncIterator[tuple[str, bytes]]) -> None:
        await put_one_by_one(self, contents)

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        check_digest(digest)
        content = self._contents.get(digest)
        if content is None:
            raise missing_blob(digest)
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]

    async def size(self, digest: str) -> int:
        check_digest(digest)
        if digest not in self._contents:
            raise missing_blob(digest)
        return len(self._contents[digest])

    async def delete(self, digests: Sequence[str], used_until_s: float = math.inf) -> None:
        for digest in digests:
            if self._used_at_s.get(digest, 0.0) <= used_until_s:
                self._contents.pop(digest, None)

    async def list(self) -> AsyncIterator[StoredBlob]:
        for digest, content in list(self._contents.items()):
            used_at_s = self._used_at_s[digest]
            yield StoredBlob(digest=digest, size_bytes=len(content), used_at_s=used_at_s)
