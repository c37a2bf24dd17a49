"""What another scheduler gets of blobs whose store fails in the middle: never a whole answer."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from serai.blobs import MemoryBlobs, StoredBlob, one_piece
from serai.clock import SystemClock
from serai.errors import Unavailable
from serai.model import digest_of
from serai_scheduler.blobs.peer_routes import PEER_BLOBS
from tests.support.blob_schedulers import BlobScheduler

DATA = b"x" * 3_000
DIGEST = digest_of(DATA)


class Failing(MemoryBlobs):
    """Yields a little of what it is asked for and then fails."""

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        yield DATA[:10]
        raise Unavailable("the disk went away")

    async def list(self) -> AsyncIterator[StoredBlob]:
        yield StoredBlob(digest=DIGEST, size_bytes=len(DATA), used_at_s=1.0)
        raise Unavailable("the disk went away")


@pytest.fixture
async def failing(tmp_path: Path) -> AsyncIterator[BlobScheduler]:
    clock = SystemClock()
    one = BlobScheduler(tmp_path, clock)
    one.own = Failing(clock.wall)
    await one.own.put(DIGEST, one_piece(DATA), len(DATA))
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


@pytest.mark.parametrize("path", [f"/{DIGEST}", ""])
async def test_what_fails_in_the_middle_is_cut_off(failing: BlobScheduler, path: str) -> None:
    url = f"{failing.url}{PEER_BLOBS}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        found = b""
        with pytest.raises(aiohttp.ClientError):
            async for piece in response.content.iter_any():
                found += piece
    assert b"unavailable" not in found, "no other answer is written into this one"
