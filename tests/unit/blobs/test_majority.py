"""Blobs of several schedulers whose own folder does less than usual."""

import math
from collections.abc import AsyncIterator, Sequence

import pytest

from serai.blobs import CHUNK_BYTES, MemoryBlobs, one_piece, read_all
from serai.clock import SystemClock
from serai.errors import Unavailable
from serai.model import digest_of
from serai_scheduler.blobs.majority import KEPT_PIECES, MajorityBlobs

DATA = b"model"


class Away(MemoryBlobs):
    async def put(self, digest: str, stream: AsyncIterator[bytes], size_bytes: int) -> None:
        raise Unavailable("away")


class KeepsAll(MemoryBlobs):
    async def delete(self, digests: Sequence[str], used_until_s: float = math.inf) -> None:
        raise Unavailable("the disk went away")


async def test_why_an_upload_failed_is_not_hidden() -> None:
    clock = SystemClock()
    peers = {url: Away(clock.wall) for url in ("http://b", "http://c")}
    blobs = MajorityBlobs(KeepsAll(clock.wall), peers, clock)
    with pytest.raises(Unavailable, match="1 of 3 schedulers can store the upload"):
        await blobs.put(digest_of(DATA), one_piece(DATA), len(DATA))


class ReadsNothing(MemoryBlobs):
    """Leaves what it is sent, as a port may that has it already."""

    async def put(self, digest: str, stream: AsyncIterator[bytes], size_bytes: int) -> None:
        return


@pytest.mark.timeout(10)
async def test_a_reader_goes_on_where_its_folder_takes_nothing() -> None:
    clock, data = SystemClock(), b"x" * (KEPT_PIECES + 3) * CHUNK_BYTES
    peer = MemoryBlobs(clock.wall)
    await peer.put(digest_of(data), one_piece(data), len(data))
    blobs = MajorityBlobs(ReadsNothing(clock.wall), {"http://b": peer}, clock)
    assert await read_all(blobs, digest_of(data), len(data)) == data


class Breaks(MemoryBlobs):
    """Fails in a way that no port may."""

    async def put(self, digest: str, stream: AsyncIterator[bytes], size_bytes: int) -> None:
        raise RuntimeError("broken")


@pytest.mark.timeout(10)
async def test_a_folder_that_breaks_leaves_no_reader_waiting() -> None:
    clock, data = SystemClock(), b"x" * (KEPT_PIECES + 3) * CHUNK_BYTES
    peer = MemoryBlobs(clock.wall)
    await peer.put(digest_of(data), one_piece(data), len(data))
    blobs = MajorityBlobs(Breaks(clock.wall), {"http://b": peer}, clock)
    with pytest.raises(RuntimeError, match="broken"):
        await read_all(blobs, digest_of(data), len(data))
