"""Blobs in the folders of three schedulers: who may be away, and what is left, lost and mended."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from serai.blobs import MemoryBlobs, collect_garbage, fetched, one_piece, read_all
from serai.bundle import BundleFile, Manifest, encode_manifest
from serai.clock import SimClock, SystemClock
from serai.errors import Refused, Unavailable
from serai.memory import MemoryStore
from serai.metrics import Metrics, render
from serai.model import Version, digest_of
from serai_scheduler.blobs import FolderBlobs
from serai_scheduler.blobs.asking import MAX_BEHIND
from serai_scheduler.blobs.fill import LOOK_AGAIN_S, Filling
from serai_scheduler.blobs.majority import MajorityBlobs
from serai_scheduler.blobs.peer import GROUP_BYTES
from serai_scheduler.blobs.storage import key_of
from serai_scheduler.state import State
from tests.support.blob_schedulers import BlobScheduler, blob_schedulers
from tests.support.ports import free_port
from tests.support.proxies import accepting
from tests.support.scheduling import deployed, spec
from tests.support.wait import auntil

DATA = b"model weights"
DIGEST = digest_of(DATA)
LONG = Random(1).randbytes(9_000_000)
SOON_S = 8.0
"""Well below the least limit of a call: nothing that takes less has waited for one."""


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[list[BlobScheduler]]:
    async with blob_schedulers(tmp_path, SystemClock()) as found:
        yield found


async def put(blobs: MajorityBlobs, data: bytes) -> str:
    await blobs.put(digest_of(data), one_piece(data), len(data))
    return digest_of(data)


async def holds(one: BlobScheduler, *digests: str) -> bool:
    return await one.stored() == set(digests)


def path_of(one: BlobScheduler, digest: str) -> Path:
    return one.folder / "blobs" / key_of(digest)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# Storing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", DATA, LONG])
async def test_all_get_a_copy_and_any_serves_it(three: list[BlobScheduler], data: bytes) -> None:
    digest = await put(three[0].blobs, data)
    for one in three:
        assert await one.blobs.has([digest]) == {digest}
        assert await read_all(one.blobs, digest, 10**8) == data
        await auntil(partial(holds, one, digest))


async def test_small_ones_travel_together(three: list[BlobScheduler]) -> None:
    contents = [str(number).encode() * 50_000 for number in range(60)]
    assert GROUP_BYTES < sum(map(len, contents)) < 2 * GROUP_BYTES

    async def given() -> AsyncIterator[tuple[str, bytes]]:
        for content in contents:
            yield digest_of(content), content

    await three[0].blobs.put_each(given())
    digests = {digest_of(content) for content in contents}
    for one in three:
        await auntil(partial(holds, one, *digests))
    for one in three[1:]:
        assert one.requests == ["POST /v1/peers/blobs/batch"] * 2


async def test_one_that_is_asked_by_another_asks_nobody(three: list[BlobScheduler]) -> None:
    first, *others = three
    assert await first.blobs.has([DIGEST]) == frozenset()
    with pytest.raises(Refused) as caught:
        await read_all(first.blobs, DIGEST, 100)
    assert caught.value.code == "no_blob"
    assert first.requests == []
    for one in others:
        assert one.requests == [
            "POST /v1/peers/blobs/missing",
            f"GET /v1/peers/blobs/{DIGEST}/size",
        ]


async def test_with_one_away_all_goes_on(three: list[BlobScheduler]) -> None:
    first, second, third = three
    await third.stop()
    assert await first.blobs.has([DIGEST]) == frozenset()
    for data in (DATA, LONG):
        digest = await put(first.blobs, data)
        assert await holds(second, *await first.stored())
        for one in (first, second):
            assert await one.blobs.has([digest]) == {digest}
            assert await read_all(one.blobs, digest, 10**8) == data
    await first.blobs.delete([DIGEST])
    assert await first.blobs.has([DIGEST]) == frozenset()
    await third.start()
    assert await holds(third)
    assert await read_all(third.blobs, digest_of(LONG), 10**8) == LONG
    assert await holds(third, digest_of(LONG)), "what it gave out it keeps"


@pytest.mark.parametrize("data", [DATA, LONG])
async def test_with_two_away_nothing_is_stored_and_the_message_says_why(
    three: list[BlobScheduler], data: bytes
) -> None:
    first, second, third = three
    kept = await put(first.blobs, b"stored before")
    await auntil(lambda: holds(third, kept))
    await second.stop()
    await third.stop()
    for attempt in (
        put(first.blobs, data),
        first.blobs.put_each(one_small(data)),
        first.blobs.has([kept]),
        first.blobs.delete([kept]),
    ):
        with pytest.raises(Unavailable) as caught:
            await attempt
        told = str(caught.value)
        assert told.startswith("1 of 3 schedulers can ") and "2 are needed" in told
        assert second.url in told and third.url in told and "deploy again" in told
    with pytest.raises(Unavailable):
        [blob async for blob in first.blobs.list()]
    assert digest_of(data) not in await first.stored()
    assert not [p for p in files_below(first.folder) if digest_of(data) in p.name]
    await second.start()
    assert await put(first.blobs, data) == digest_of(data)
    assert await second.blobs.has([digest_of(data)]) == {digest_of(data)}


async def one_small(data: bytes) -> AsyncIterator[tuple[str, bytes]]:
    yield digest_of(data), data


async def test_what_fails_leaves_what_was_there_before(three: list[BlobScheduler]) -> None:
    first, *others = three
    await first.own.put(DIGEST, one_piece(DATA), len(DATA))
    for one in others:
        await one.stop()
    with pytest.raises(Unavailable):
        await put(first.blobs, DATA)
    assert await holds(first, DIGEST)


async def test_what_fewer_hold_is_asked_for_again(three: list[BlobScheduler]) -> None:
    await three[0].own.put(DIGEST, one_piece(DATA), len(DATA))
    for one in three:
        assert await one.blobs.has([DIGEST]) == frozenset()
    await three[1].own.put(DIGEST, one_piece(DATA), len(DATA))
    for one in three:
        assert await one.blobs.has([DIGEST]) == {DIGEST}


async def test_nobody_waits_for_one_that_stands_still(tmp_path: Path) -> None:
    calls = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(writer)
        try:
            while await reader.read(2**16):
                pass
        finally:
            writer.transport.abort()

    clock = SystemClock()
    async with AsyncExitStack() as stack:
        still = await stack.enter_async_context(accepting(silent))
        ports = [free_port(), free_port()]
        urls = [f"http://127.0.0.1:{port}" for port in (*ports, still)]
        found = await stack.enter_async_context(blob_schedulers(tmp_path, clock, 3, urls))
        for one, port in zip(found, ports, strict=False):
            await one.stop()
            one.port = port
            await one.start()
        first, second, _ = found
        began_s = clock.now()
        for number in range(20):  # more than may lag behind
            await put(first.blobs, str(number).encode())
        await put(first.blobs, LONG)
        assert await first.blobs.has([digest_of(LONG)]) == {digest_of(LONG)}
        assert await second.blobs.has([digest_of(b"1"), DIGEST]) == {digest_of(b"1")}
        assert clock.now() - began_s < SOON_S
        assert len(calls) <= MAX_BEHIND + 2, "soon it is sent nothing more"


async def test_full_disks_are_told_as_such(three: list[BlobScheduler]) -> None:
    first, *others = three
    for one in others:
        await one.stop()
        one.own = MemoryBlobs(SystemClock().wall, room_bytes=5)
        await one.start()
    for attempt in (put(first.blobs, DATA), first.blobs.put_each(one_small(DATA))):
        with pytest.raises(Unavailable, match=f"{others[0].url}: no room left") as caught:
            await attempt
        assert type(caught.value).__name__ == "DiskFull"
    assert await holds(first)


# Reading and mending ------------------------------------------------------------------------------


async def test_a_reader_that_leaves_in_the_middle_leaves_nothing(
    three: list[BlobScheduler],
) -> None:
    await three[1].own.put(digest_of(LONG), one_piece(LONG), len(LONG))
    async with aclosing(fetched(three[0].blobs, digest_of(LONG))) as pieces:
        assert await anext(pieces)
    assert files_below(three[0].folder) == []


async def test_several_read_at_once_what_is_not_here(three: list[BlobScheduler]) -> None:
    await three[1].own.put(digest_of(LONG), one_piece(LONG), len(LONG))
    read = await asyncio.gather(
        *(read_all(three[0].blobs, digest_of(LONG), 10**8) for _ in range(3))
    )
    assert read == [LONG] * 3
    assert await holds(three[0], digest_of(LONG))


async def test_a_damaged_copy_is_no_loss(three: list[BlobScheduler]) -> None:
    digest = await put(three[0].blobs, DATA)
    for one in three:
        await auntil(partial(holds, one, digest))
    path_of(three[0], digest).write_bytes(b"model weighty")
    with pytest.raises(Refused) as caught:
        await read_all(three[0].blobs, digest, 100)
    assert caught.value.code == "blob_damaged"
    path_of(three[1], digest).write_bytes(b"model weighty")
    await three[0].blobs.bring(digest)
    assert path_of(three[0], digest).read_bytes() == DATA, "from the one whose copy is whole"


async def test_whether_it_is_absent_can_be_told_only_by_all(three: list[BlobScheduler]) -> None:
    first, _, third = three
    await third.stop()
    for attempt in (read_all(first.blobs, DIGEST, 9), first.blobs.bring(DIGEST)):
        with pytest.raises(Unavailable, match=third.url):
            await attempt


async def test_garbage_goes_everywhere_but_not_what_was_used_elsewhere(tmp_path: Path) -> None:
    clock = SimClock(start_s=1e9)  # after the files' own times
    async with blob_schedulers(tmp_path, clock) as three:
        first, second, third = three
        waste, used, kept = [await put(first.blobs, name) for name in (b"w", b"u", b"k")]
        await auntil(lambda: holds(third, waste, used, kept))
        assert await second.own.has([used]) == {used}
        removed = await collect_garbage(first.blobs, {kept}, clock.wall())
        assert [blob.digest for blob in removed] == [waste]
        for one in three:
            assert await holds(one, used, kept)
        await third.stop()
        await clock.sleep(7200)
        assert len(await collect_garbage(first.blobs, {kept}, clock.wall())) == 1
        assert await holds(third, used, kept)
        await third.start()
        await clock.sleep(7200)
        await collect_garbage(second.blobs, {kept}, clock.wall())
        assert await holds(third, kept), "what one kept that was away goes when it is back"


# Filling a lost folder ----------------------------------------------------------------------------


class Cluster:
    """Three schedulers, the store that they share, and one's loop."""

    def __init__(self, three: list[BlobScheduler], clock: SimClock) -> None:
        self.three, self.clock = three, clock
        self.state = State(MemoryStore())
        self.registry = CollectorRegistry()
        metrics = Metrics("scheduler", self.registry)
        one = three[2]
        self.filling = Filling(one.blobs, one.own, self.state, clock, metrics)

    async def deploy(self, api: str, *files: bytes) -> set[str]:
        """Store a version with these files; return all that it needs."""
        entries = tuple(
            BundleFile(path=f"{number}", digest=digest_of(content), size_bytes=len(content))
            for number, content in enumerate(files)
        )
        manifest = encode_manifest(Manifest(files=entries))
        lock, runtime = f"lock of {api}".encode(), b"runtime"
        blobs = self.three[0].blobs
        needed = {await put(blobs, content) for content in (*files, manifest, lock, runtime)}
        accepted, stored = deployed(None, spec(api), bundle=digest_of(manifest))
        (version,) = stored.versions.values()
        content = msgspec.structs.replace(
            version.content, lock=digest_of(lock), runtime=digest_of(runtime)
        )
        found: Version = msgspec.structs.replace(version, content=content)
        assert accepted.record is not None
        await self.state.write(None, accepted.record, None, 1, versions=(found,))
        return needed

    @property
    def lacking(self) -> float:
        text = render(self.registry).decode()
        (line,) = [one for one in text.splitlines() if one.startswith("serai_scheduler_lacking")]
        return float(line.split()[-1])


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    clock = SimClock()
    async with blob_schedulers(tmp_path, clock) as three:
        yield Cluster(three, clock)


async def test_a_lost_folder_is_filled_again(cluster: Cluster) -> None:
    lost = cluster.three[2]
    needed = await cluster.deploy("iris", b"one", b"two", LONG)
    needed |= await cluster.deploy("digits", b"three", b"")
    await auntil(lambda: holds(lost, *needed))
    waste = await put(cluster.three[0].blobs, b"needed by nobody")
    await auntil(lambda: holds(lost, *needed, waste))
    shutil.rmtree(lost.folder / "blobs")
    await cluster.filling.step()
    assert await holds(lost, *needed), "what versions need, and nothing else"
    assert cluster.lacking == 0
    shutil.rmtree(lost.folder / "blobs")
    await cluster.clock.sleep(LOOK_AGAIN_S)
    await cluster.filling.step()
    assert await holds(lost, *needed), "what was whole is looked at again now and then"


async def test_what_was_missed_while_away_is_filled(cluster: Cluster) -> None:
    missed = cluster.three[2]
    await cluster.filling.step()
    await missed.stop()
    needed = await cluster.deploy("iris", b"one", b"two")
    await missed.start()
    await cluster.filling.step()
    assert await holds(missed, *needed)


async def test_what_nobody_can_give_now_is_counted_and_asked_for_again(cluster: Cluster) -> None:
    first, second, lost = cluster.three
    needed = await cluster.deploy("iris", b"one", b"two", b"three")
    await auntil(lambda: holds(lost, *needed))
    only = digest_of(b"two")
    await first.own.delete([only])
    shutil.rmtree(lost.folder / "blobs")
    await second.stop()
    await cluster.filling.step()
    assert await holds(lost, *(needed - {only}))
    assert cluster.lacking == 1
    await second.start()
    await cluster.clock.sleep(30.0)
    await cluster.filling.step()
    assert await holds(lost, *needed) and cluster.lacking == 0


async def test_a_folder_that_is_whole_costs_the_others_nothing(cluster: Cluster) -> None:
    await cluster.deploy("iris", b"one", b"two")
    first, second, _ = cluster.three
    await cluster.filling.step()
    before = len(first.requests) + len(second.requests)
    for _ in range(5):
        await cluster.filling.step()
    assert len(first.requests) + len(second.requests) == before


async def test_a_folder_that_cannot_be_had_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be used"):
        FolderBlobs(tmp_path / "file" / "blobs", SystemClock())
