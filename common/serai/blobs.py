"""The port to immutable content, addressed by its SHA-256; a folder through obstore for now."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

import obstore
from obstore.store import LocalStore

from serai.errors import Refused, Unavailable
from serai.model import Value

DEADLINE_S = 60.0
PART_BYTES = 8 * 2**20


class BlobInfo(Value):
    """A stored blob: its size and when it was stored (wall clock)."""

    digest: str
    size_bytes: int
    modified_at_s: float


class Blobs(Protocol):
    """Where bundles, locks and manifests lie."""

    async def has(self, digests: Sequence[str]) -> frozenset[str]:
        """Return those that are there."""
        ...

    async def put(self, digest: str, data: AsyncIterator[bytes]) -> None:
        """Store a blob whole or not at all; Refused (`digest_mismatch`) when it is another."""
        ...

    def get(self, digest: str) -> AsyncIterator[bytes]:
        """Yield a blob's content; Refused (`no_blob`) when it is not there."""
        ...

    async def delete(self, digests: Sequence[str]) -> None: ...

    async def inventory(self) -> list[BlobInfo]: ...


async def read_all(blobs: Blobs, digest: str, limit_bytes: int) -> bytes:
    """Return a small blob whole; Refused when it is larger than the limit."""
    data = bytearray()
    async for chunk in blobs.get(digest):
        data += chunk
        if len(data) > limit_bytes:
            raise Refused(f"blob {digest} is larger than {limit_bytes} bytes", "blob_too_large")
    return bytes(data)


def check_digest(digest: str) -> str:
    """Return the digest; Refused when it is none (it becomes part of a path)."""
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise Refused(f"{digest[:80]!r} is not a SHA-256 in hexadecimal", "bad_digest")
    return digest


class FolderBlobs:
    """Blobs as files below a folder, in 256 subfolders."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._store = LocalStore(prefix=str(folder))

    def path_of(self, digest: str) -> Path:
        """Return the file of a blob on this machine, whether it is there or not."""
        return self._folder / _name(digest)

    async def has(self, digests: Sequence[str]) -> frozenset[str]:
        for digest in digests:
            check_digest(digest)
        # One stat each: a listing of the whole store would cost more for all but huge bundles.
        return await asyncio.to_thread(
            lambda: frozenset(d for d in digests if self.path_of(d).exists())
        )

    async def put(self, digest: str, data: AsyncIterator[bytes]) -> None:
        check_digest(digest)
        hashing = hashlib.sha256()

        async def checked() -> AsyncIterator[bytes]:
            async for chunk in data:
                hashing.update(chunk)
                yield chunk
            if hashing.hexdigest() != digest:
                raise Refused(
                    f"the content sent as {digest} is {hashing.hexdigest()}; send it again",
                    "digest_mismatch",
                )

        try:
            # The store writes to a temporary name and renames at the end: an error leaves nothing.
            await obstore.put_async(self._store, _name(digest), checked(), chunk_size=PART_BYTES)
        except OSError as error:
            raise Unavailable(f"cannot store the blob: {error}") from error

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        check_digest(digest)
        try:
            async with asyncio.timeout(DEADLINE_S):
                found = await obstore.get_async(self._store, _name(digest))
        except FileNotFoundError:
            raise Refused(f"there is no blob {digest}", "no_blob") from None
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"cannot read blob {digest}: {error}") from error
        async for chunk in found.stream(min_chunk_size=2**20):
            yield bytes(chunk)

    async def delete(self, digests: Sequence[str]) -> None:
        for digest in digests:
            try:
                await obstore.delete_async(self._store, _name(check_digest(digest)))
            except FileNotFoundError:
                continue

    async def inventory(self) -> list[BlobInfo]:
        found: list[BlobInfo] = []
        async for batch in obstore.list(self._store):
            found += [
                BlobInfo(
                    digest=item["path"].rpartition("/")[2],
                    size_bytes=item["size"],
                    modified_at_s=item["last_modified"].timestamp(),
                )
                for item in batch
            ]
        return [info for info in found if len(info.digest) == 64]


def _name(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def unreferenced(
    stored: Sequence[BlobInfo], referenced: frozenset[str], now_s: float, min_age_s: float
) -> tuple[str, ...]:
    """Return the blobs that nothing needs; young ones may belong to a deploy under way. Pure."""
    return tuple(
        info.digest
        for info in stored
        if info.digest not in referenced and now_s - info.modified_at_s > min_age_s
    )
