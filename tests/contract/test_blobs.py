"""One suite for every blob store."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from serai.blobs import (
    Blobs,
    DiskFull,
    MemoryBlobs,
    StoredBlob,
    collect_garbage,
    one_piece,
    read_all,
)
from serai.clock import SimClock
from serai.errors import Refused
from serai.model import digest_of
from serai_scheduler.blobs import FolderBlobs, ObjectBlobs
from serai_scheduler.blobs.peer import PeerBlobs, peer_session
from tests.support.blob_schedulers import blob_schedulers
from tests.support.wait import auntil

LONG_BYTES = 21 * 2**20


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture(params=["memory", "folder", "object store", "peer", "majority"])
async def blobs(
    request: pytest.FixtureRequest, tmp_path: Path, clock: SimClock
) -> AsyncIterator[Blobs]:
    if request.param == "memory":
        yield MemoryBlobs(clock.wall)
    elif request.param == "folder":
        yield FolderBlobs(tmp_path / "blobs", clock)
    elif request.param == "object store":
        yield ObjectBlobs(MemoryStore(), clock, "memory")
    elif request.param == "peer":
        async with blob_schedulers(tmp_path, clock, 1) as (one,), peer_session(None) as session:
            yield PeerBlobs(session, one.url, "")
    else:
        async with blob_schedulers(tmp_path, clock) as (first, *_):
            yield first.blobs


async def pieces_of(data: bytes, piece_bytes: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), piece_bytes):
        yield data[start : start + piece_bytes]


async def put(blobs: Blobs, data: bytes) -> str:
    digest = digest_of(data)
    await blobs.put(digest, pieces_of(data, 300_000), len(data))
    return digest


async def stored(blobs: Blobs) -> dict[str, StoredBlob]:
    return {blob.digest: blob async for blob in blobs.list()}


async def refusal(blobs: Blobs, digest: str, data: bytes, size_bytes: int) -> str:
    with pytest.raises(Refused) as caught:
        await blobs.put(digest, pieces_of(data, 300_000), size_bytes)
    return caught.value.code


@pytest.mark.parametrize("size_bytes", [0, 1, 700_000, LONG_BYTES])
async def test_gives_back_what_was_put(blobs: Blobs, size_bytes: int) -> None:
    data = bytes(range(256)) * (size_bytes // 256 + 1)
    data = data[:size_bytes]
    digest = await put(blobs, data)
    assert b"".join([piece async for piece in blobs.get(digest)]) == data
    assert await blobs.size(digest) == size_bytes
    assert list(await stored(blobs)) == [digest]


async def test_putting_twice_is_the_same_as_once(blobs: Blobs) -> None:
    assert await put(blobs, b"model") == await put(blobs, b"model")
    assert len(await stored(blobs)) == 1


async def test_two_may_put_the_same_blob_at_once(blobs: Blobs) -> None:
    data = b"x" * LONG_BYTES
    digests = await asyncio.gather(*(put(blobs, data) for _ in range(4)))
    assert await read_all(blobs, digests[0], LONG_BYTES) == data
    assert len(await stored(blobs)) == 1


async def test_says_which_are_there(blobs: Blobs) -> None:
    digest = await put(blobs, b"model")
    absent = digest_of(b"other")
    assert await blobs.has([absent, digest]) == {digest}
    assert await blobs.has([]) == frozenset()


async def test_what_is_absent_is_refused(blobs: Blobs) -> None:
    absent = digest_of(b"absent")
    with pytest.raises(Refused) as caught:
        [piece async for piece in blobs.get(absent)]
    assert caught.value.code == "no_blob"
    with pytest.raises(Refused) as caught:
        await blobs.size(absent)
    assert caught.value.code == "no_blob"


@pytest.mark.parametrize("length", [1_000, LONG_BYTES])
async def test_content_that_does_not_match_is_refused_and_not_kept(
    blobs: Blobs, length: int, tmp_path: Path
) -> None:
    data = b"y" * length
    digest = digest_of(data)
    assert await refusal(blobs, digest, b"z" + data[1:], length) == "digest_mismatch"
    assert await refusal(blobs, digest, data[:-1], length) == "size_mismatch"
    assert await refusal(blobs, digest, data + b"y", length) == "size_mismatch"
    assert await stored(blobs) == {}
    await auntil(lambda: not files_below(tmp_path), what="something was left behind")


@pytest.mark.parametrize("length", [1_000, LONG_BYTES])
async def test_a_stream_that_breaks_leaves_nothing(
    blobs: Blobs, length: int, tmp_path: Path
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        async for piece in pieces_of(b"y" * length, 300_000):
            yield piece
        raise Refused("cut off", "upload_cut_off")

    with pytest.raises(Refused) as caught:
        await blobs.put(digest_of(b"y" * length), broken(), length)
    assert caught.value.code == "upload_cut_off"
    assert await stored(blobs) == {}
    await auntil(lambda: not files_below(tmp_path), what="something was left behind")


@pytest.mark.parametrize("length", [1_000, LONG_BYTES])
async def test_a_cancelled_put_leaves_nothing(blobs: Blobs, length: int, tmp_path: Path) -> None:
    arrived = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        async for piece in pieces_of(b"y" * length, 300_000):
            yield piece
        arrived.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(blobs.put(digest_of(b"y" * length), endless(), length))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stored(blobs) == {}
    await auntil(lambda: not files_below(tmp_path), what="something was left behind")


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "/"])
async def test_what_is_no_digest_never_reaches_the_store(blobs: Blobs, name: str) -> None:
    assert await refusal(blobs, name, b"", 0) == "bad_digest"
    with pytest.raises(Refused):
        await blobs.size(name)
    with pytest.raises(Refused):
        [piece async for piece in blobs.get(name)]


async def test_deletes_what_is_there_and_ignores_the_rest(blobs: Blobs) -> None:
    kept, gone = await put(blobs, b"kept"), await put(blobs, b"gone")
    await blobs.delete([gone, digest_of(b"never there")])
    assert list(await stored(blobs)) == [kept]


async def test_what_was_used_since_one_looked_is_not_deleted(blobs: Blobs, clock: SimClock) -> None:
    unused, used = await put(blobs, b"unused"), await put(blobs, b"used")
    written_s = max(blob.used_at_s for blob in (await stored(blobs)).values())
    await clock.sleep(max(0.0, written_s - clock.wall()) + 60)
    looked_at_s = clock.wall()
    await clock.sleep(60)
    assert await blobs.has([used]) == {used}
    await blobs.delete([unused, used, digest_of(b"never there")], looked_at_s)
    assert list(await stored(blobs)) == [used]


@pytest.mark.parametrize("count", [0, 1, 300])
async def test_small_blobs_are_put_together(blobs: Blobs, count: int) -> None:
    contents = [str(number).encode() * 1000 for number in range(count)]

    async def given() -> AsyncIterator[tuple[str, bytes]]:
        for content in contents:
            yield digest_of(content), content

    await blobs.put_each(given())
    found = await stored(blobs)
    assert {d: blob.size_bytes for d, blob in found.items()} == {
        digest_of(content): len(content) for content in contents
    }
    for content in contents[:3]:
        assert await read_all(blobs, digest_of(content), 10_000) == content


@pytest.mark.parametrize("bad", ["content", "stream"])
async def test_those_before_a_bad_one_stay(blobs: Blobs, bad: str) -> None:
    async def given() -> AsyncIterator[tuple[str, bytes]]:
        yield digest_of(b"good"), b"good"
        if bad == "stream":
            raise Refused("cut off", "upload_cut_off")
        yield digest_of(b"bad"), b"evil"
        yield digest_of(b"never"), b"never"

    with pytest.raises(Refused) as caught:
        await blobs.put_each(given())
    assert caught.value.code == ("upload_cut_off" if bad == "stream" else "digest_mismatch")
    good = digest_of(b"good")
    assert await blobs.has([good, digest_of(b"bad"), digest_of(b"never")]) == {good}
    assert list(await stored(blobs)) == [good]


async def test_a_small_blob_is_read_whole_up_to_a_limit(blobs: Blobs) -> None:
    digest = await put(blobs, b"12345")
    assert await read_all(blobs, digest, 5) == b"12345"
    with pytest.raises(Refused) as caught:
        await read_all(blobs, digest, 4)
    assert caught.value.code == "blob_too_large"


async def test_garbage_is_what_nothing_refers_to_and_nobody_asked_about(
    blobs: Blobs, clock: SimClock
) -> None:
    waste, kept, asked = [await put(blobs, data) for data in (b"waste", b"kept", b"asked")]
    written_s = max(blob.used_at_s for blob in (await stored(blobs)).values())
    await clock.sleep(max(0.0, written_s - clock.wall()) + 7200)
    assert await blobs.has([asked]) == {asked}
    removed = await collect_garbage(blobs, {kept}, clock.wall(), min_age_s=3600)
    assert [blob.digest for blob in removed] == [waste]
    assert set(await stored(blobs)) == {kept, asked}
    await clock.sleep(3600)
    await collect_garbage(blobs, {kept}, clock.wall(), min_age_s=3600)
    assert set(await stored(blobs)) == {kept}


async def test_what_a_deploy_asks_about_before_its_turn_stays(
    blobs: Blobs, clock: SimClock
) -> None:
    waste, asked = [await put(blobs, data) for data in (b"waste", b"asked")]
    written_s = max(blob.used_at_s for blob in (await stored(blobs)).values())
    await clock.sleep(max(0.0, written_s - clock.wall()) + 7200)
    began_s = clock.wall()

    @asynccontextmanager
    async def turn() -> AsyncIterator[None]:  # what goes is known by now, and a deploy was first
        await clock.sleep(1)
        assert await blobs.has([asked]) == {asked}
        yield

    await collect_garbage(blobs, (), began_s, 3600, turn())
    assert set(await stored(blobs)) == {asked} != {waste}


async def test_a_blob_that_was_damaged_on_disk_is_found_out_and_removed(
    tmp_path: Path, clock: SimClock
) -> None:
    blobs = FolderBlobs(tmp_path, clock)
    digest = await put(blobs, b"model")
    blobs.path_of(digest).write_bytes(b"nodel")
    with pytest.raises(Refused) as caught:
        [piece async for piece in blobs.get(digest)]
    assert caught.value.code == "blob_damaged"
    assert await blobs.has([digest]) == frozenset()


async def test_what_a_crash_left_unfinished_goes_after_a_day(
    tmp_path: Path, clock: SimClock
) -> None:
    blobs = FolderBlobs(tmp_path, clock)
    digest = await put(blobs, b"model")
    unfinished = tmp_path / digest[:2] / f"{digest}#1"
    unfinished.write_bytes(b"mo")
    for age_s, stays in ((3600.0, True), (24 * 3600.0 + 1, False)):
        written_s = clock.wall() - age_s
        os.utime(unfinished, (written_s, written_s))
        assert list(await stored(blobs)) == [digest]
        assert unfinished.exists() is stays


async def test_a_memory_store_without_room_says_so() -> None:
    blobs = MemoryBlobs(SimClock().wall, room_bytes=10)
    with pytest.raises(DiskFull):
        await blobs.put(digest_of(b"x" * 11), one_piece(b"x" * 11), 11)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
