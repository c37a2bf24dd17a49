"""Values in the store that somebody has damaged: their API stays as it is, and others go on."""

import pytest

from serai.errors import Refused
from serai.memory import MemoryStore
from serai.store import Snapshot, Write
from serai_scheduler.record import VERSIONS, api_key, node_key, route_key, version_key
from serai_scheduler.state import MENDING, State
from tests.sim.test_strays import World


async def served(*names: str) -> World:
    """Return a world in which these APIs have a replica each."""
    world = World()
    for name in names:
        await world.deploy(name)
    for _ in range(20):
        await world.pass_time(1.0)
    assert [(await world.state.read())[name].record.candidate for name in names] == [None] * len(
        names
    )
    return world


async def put(world: World, key: str, value: bytes | None) -> None:
    await world.store.commit([Write(key=key, value=value)], 0)


async def stable_key(world: World, api: str) -> str:
    return version_key(api, (await world.state.read())[api].record.stable)


@pytest.mark.parametrize("value", [b"garbage", b"{}", b"", None, b"[" * 10_000])
async def test_a_damaged_version_leaves_its_replicas_and_other_apis_alone(
    value: bytes | None,
) -> None:
    world = await served("iris", "text")
    key = await stable_key(world, "iris")
    kept = await world.store.get(key)
    assert kept is not None
    running = world.alive()
    await put(world, key, value)
    await world.orders.scale("text", 2)
    with pytest.raises(Refused, match=f"iris stays as it is: the store's key {key} "):
        await world.orders.scale("iris", 2)
    await world.pass_time(1.0)
    assert set(running) < set(world.alive()) and len(world.alive()) == 3
    await put(world, key, kept.value)
    await world.orders.scale("iris", 2)
    await world.pass_time(1.0)
    assert len(world.alive()) == 4


async def test_a_damaged_record_leaves_its_replicas_and_other_apis_alone() -> None:
    world = await served("iris", "text")
    running = world.alive()
    await put(world, api_key("iris"), b"garbage")
    await world.orders.scale("text", 2)
    with pytest.raises(Refused, match="the store's key apis/iris cannot be read"):
        await world.deploy("iris")
    await world.pass_time(1.0)
    assert set(running) < set(world.alive()) and len(world.alive()) == 3


async def test_a_record_of_another_api_is_not_taken_for_it() -> None:
    world = await served("iris", "text")
    other = await world.store.get(api_key("text"))
    assert other is not None
    await put(world, api_key("iris"), other.value)
    assert list(await world.state.read()) == ["text"]
    assert world.state.faults == {
        "iris": f"the store's key apis/iris holds what belongs to apis/text; {MENDING}"
    }


async def test_a_record_that_was_removed_by_hand_ends_nothing() -> None:
    world = await served("iris")
    running = world.alive()
    await put(world, api_key("iris"), None)
    await world.pass_time(1.0)
    assert world.alive() == running
    await world.deploy("iris")
    await world.pass_time(1.0)
    assert world.alive() == running, "what is deployed anew takes them over"


@pytest.mark.parametrize("value", [b"garbage", None])
async def test_a_damaged_route_is_written_anew(value: bytes | None) -> None:
    world = await served("iris")
    good = await world.store.get(route_key("iris"))
    await put(world, route_key("iris"), value)
    await world.pass_time(1.0)
    found = await world.store.get(route_key("iris"))
    assert good is not None and found is not None and found.value == good.value


async def test_a_damaged_wish_for_a_node_is_none() -> None:
    world = await served("iris")
    await put(world, node_key("node-1"), b"garbage")
    assert list(await world.state.read()) == ["iris"] and world.state.intents == {}


class Deleting(MemoryStore):
    """A store from which an API goes between two scans of one read."""

    going: tuple[str, ...] = ()

    async def scan(self, prefix: str) -> Snapshot:
        if prefix == VERSIONS and self.going:
            going, self.going = self.going, ()
            await self.commit([Write(key=key, value=None) for key in going], 0)
        return await super().scan(prefix)


async def test_an_api_that_is_deleted_during_a_read_is_no_fault() -> None:
    store = Deleting()
    world = await served("iris")
    keys = (api_key("iris"), await stable_key(world, "iris"))
    for key in keys:
        entry = await world.store.get(key)
        assert entry is not None
        await store.commit([Write(key=key, value=entry.value)], 0)
    state, store.going = State(store), keys
    assert await state.read() == {} and state.faults == {}


class Counting(MemoryStore):
    """A store that counts how often it was scanned."""

    scans = 0

    async def scan(self, prefix: str) -> Snapshot:
        self.scans += 1
        return await super().scan(prefix)


async def test_a_store_that_has_not_changed_is_not_scanned_again() -> None:
    store = Counting()
    state = State(store)
    await store.commit([Write(key=api_key("iris"), value=b"garbage")], 0)
    await state.read()
    once = store.scans
    for _ in range(3):
        assert await state.read() == {} and list(state.faults) == ["iris"]
    assert store.scans == once
    await store.commit([Write(key=api_key("iris"), value=None)], 0)
    assert await state.read() == {} and state.faults == {}
    assert store.scans > once
