"""One suite for every store."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.store import ConsulStore
from serai.errors import Refused
from serai.memory import MemoryStore
from serai.store import MAX_COMMIT_BYTES, MAX_VALUE_BYTES, MAX_WRITES, Store, Write
from serai_scheduler.store.sqlite import SqliteStore
from tests.cluster.agents import ConsulAgent

REAL = pytest.param("consul", marks=pytest.mark.engines)


@pytest.fixture(params=["memory", "sqlite", REAL])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    if request.param == "consul":
        agent: ConsulAgent = request.getfixturevalue("consul_agent")
        client = ConsulClient(ConsulSettings(port=agent.port))
        yield ConsulStore(client, SystemClock(), prefix=f"{uuid.uuid4()}/")
        await client.close()
        return
    opened = SqliteStore(tmp_path / "store.db")
    await opened.open()
    yield opened
    await opened.close()


def put(key: str, value: str, expect: int | None = None) -> Write:
    return Write(key=key, value=value.encode(), expect=expect)


async def test_reads_what_was_written_in_the_order_of_keys(store: Store) -> None:
    await store.commit([put("apis/b", "2"), put("apis/a", "1"), put("routes/a", "3")], epoch=0)
    snapshot = await store.scan("apis/")
    assert [(entry.key, entry.value) for entry in snapshot.entries] == [
        ("apis/a", b"1"),
        ("apis/b", b"2"),
    ]
    entry = await store.get("routes/a")
    assert entry is not None and entry.value == b"3" and entry.revision == snapshot.revision
    assert await store.get("apis/c") is None


async def test_a_commit_is_all_or_nothing(store: Store) -> None:
    first = await store.commit([put("a", "1")], epoch=0)
    with pytest.raises(Refused) as caught:
        await store.commit([put("b", "2"), put("a", "9", expect=first + 5)], epoch=0)
    assert caught.value.code == "conflict"
    assert await store.get("b") is None
    entry = await store.get("a")
    assert entry is not None and entry.value == b"1"


async def test_create_only_is_refused_for_a_key_that_exists(store: Store) -> None:
    await store.commit([put("a", "1", expect=0)], epoch=0)
    with pytest.raises(Refused):
        await store.commit([put("a", "2", expect=0)], epoch=0)
    await store.commit([Write(key="a", value=None)], epoch=0)
    await store.commit([put("a", "3", expect=0)], epoch=0)
    entry = await store.get("a")
    assert entry is not None and entry.value == b"3"


async def test_a_lower_epoch_is_fenced(store: Store) -> None:
    old = await store.raise_epoch()
    new = await store.raise_epoch()
    assert new > old
    await store.commit([put("a", "new")], epoch=new)
    with pytest.raises(Refused) as caught:
        await store.commit([put("a", "old")], epoch=old)
    assert caught.value.code == "fenced"
    entry = await store.get("a")
    assert entry is not None and entry.value == b"new"


async def test_values_are_bounded(store: Store) -> None:
    whole, rest = divmod(MAX_COMMIT_BYTES, MAX_VALUE_BYTES)
    sizes = [*([MAX_VALUE_BYTES] * whole), rest]
    await store.commit([put(f"{n}", "x" * size) for n, size in enumerate(sizes)], epoch=0)
    await store.commit([put(f"many/{'k' * 100}{n}", "x") for n in range(MAX_WRITES)], epoch=0)
    for writes in (
        [put("a", "x" * (MAX_VALUE_BYTES + 1))],
        [put(f"{n}", "x" * size) for n, size in enumerate([*sizes, 1])],
        [put(f"{n}", "x") for n in range(MAX_WRITES + 1)],
    ):
        with pytest.raises(Refused) as caught:
            await store.commit(writes, epoch=0)
        assert caught.value.code == "too_large"


async def test_a_delete_can_expect_what_it_deletes(store: Store) -> None:
    first = await store.commit([put("a", "1"), put("b", "1")], epoch=0)
    with pytest.raises(Refused) as caught:
        await store.commit([Write(key="a", value=None, expect=first + 5)], epoch=0)
    assert caught.value.code == "conflict"
    second = await store.commit([Write(key="a", value=None, expect=first)], epoch=0)
    assert second > first and await store.get("a") is None
    await store.commit([Write(key="a", value=None, expect=0), put("b", "2")], epoch=0)
    with pytest.raises(Refused):
        await store.commit([Write(key="b", value=None, expect=0)], epoch=0)


async def test_a_delete_alone_is_seen_by_those_who_watch_from_before_it(store: Store) -> None:
    await store.commit([put("apis/a", "1")], epoch=0)
    seen = await store.scan("apis/")
    assert await store.commit([Write(key="apis/a", value=None)], epoch=0) > seen.revision
    found = await asyncio.wait_for(store.watch("apis/", seen.revision, wait_s=30), 5)
    assert found.entries == () and found.revision > seen.revision


async def test_a_watch_returns_at_a_change_below_its_prefix_only(store: Store) -> None:
    seen = (await store.scan("apis/")).revision
    watching = asyncio.create_task(store.watch("apis/", seen, wait_s=30))
    await store.commit([put("routes/a", "1")], epoch=0)
    done, _ = await asyncio.wait({watching}, timeout=0.1)
    assert not done
    await store.commit([put("apis/a", "1")], epoch=0)
    snapshot = await asyncio.wait_for(watching, 5)
    assert [entry.key for entry in snapshot.entries] == ["apis/a"]
    watching = asyncio.create_task(store.watch("apis/", snapshot.revision, wait_s=30))
    await store.commit([Write(key="apis/a", value=None)], epoch=0)
    assert (await asyncio.wait_for(watching, 5)).entries == ()


async def test_a_watch_without_a_change_ends_in_time(store: Store) -> None:
    snapshot = await store.watch("apis/", 0, wait_s=0.05)
    assert snapshot.entries == ()


async def test_sqlite_keeps_everything_across_a_restart(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "store.db")
    await first.open()
    epoch = await first.raise_epoch()
    revision = await first.commit([put("a", "1")], epoch=epoch)
    await first.close()
    second = SqliteStore(tmp_path / "store.db")
    await second.open()
    entry = await second.get("a")
    assert entry is not None and (entry.value, entry.revision) == (b"1", revision)
    assert await second.raise_epoch() == epoch + 1
    with pytest.raises(Refused):
        await second.commit([put("a", "2")], epoch=epoch)
    await second.close()


async def test_a_mark_is_the_same_until_something_changes(store: Store) -> None:
    seen = [await store.mark()]
    for writes in (
        [put("apis/a", "1"), put("routes/a", "1")],
        [put("apis/a", "2")],
        [put("nodes/b", "1")],
        [Write(key="apis/a", value=None)],
        [Write(key="routes/a", value=None), Write(key="nodes/b", value=None)],
    ):
        await store.commit(writes, epoch=0)
        mark = await store.mark()
        assert mark not in seen and mark == await store.mark()
        seen.append(mark)
