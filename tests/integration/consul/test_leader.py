"""Who leads, as the key tells it: nobody yet, somebody, nobody any more, something odd."""

import asyncio
import base64
import uuid
from random import Random

import pytest

from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.leader import Leader, leader_of, watch_leader
from serai.consul.leader_book import LeaderBook
from serai.consul.lease import ConsulLease
from serai.consul.store import ConsulStore
from serai.errors import ConfigError, Refused, Unavailable
from serai.lease import LeaseSettings
from serai.store import Write
from serai.tasks import cancelled
from tests.cluster.agents import ConsulAgent
from tests.support.wait import auntil

pytestmark = pytest.mark.engines

ADDRESS = "https://scheduler-1:7070"


async def test_the_key_follows_the_lead(consul_agent: ConsulAgent) -> None:
    prefix = f"{uuid.uuid4()}/"
    async with ConsulClient(ConsulSettings(port=consul_agent.port)) as client:
        clock = SystemClock()
        lease = ConsulLease(client, clock, f"{prefix}leader", "test", LeaseSettings())
        store = ConsulStore(client, clock, prefix, lease, ADDRESS)
        assert await leader_of(client, prefix) is None
        index, found = await watch_leader(client, prefix, 0, 0.0)
        assert found is None
        assert await lease.acquire(5.0)
        assert await leader_of(client, prefix) is None, "it has not said yet where it is"

        waiting = asyncio.create_task(until_somebody_leads(client, prefix, index))
        assert await store.raise_epoch() == 1
        index, leader = await asyncio.wait_for(waiting, 5.0)
        assert leader == Leader(epoch=1, address=ADDRESS)
        assert await leader_of(client, prefix) == leader

        ending = asyncio.create_task(watch_leader(client, prefix, index, 30.0))
        await lease.release()
        _, found = await asyncio.wait_for(ending, 5.0)
        assert found is None, "the value stays, its lock does not"


async def test_the_book_tells_when_somebody_else_leads(consul_agent: ConsulAgent) -> None:
    prefix = f"{uuid.uuid4()}/"
    async with ConsulClient(ConsulSettings(port=consul_agent.port)) as client:
        clock = SystemClock()
        book = LeaderBook(client, clock, Random(1), prefix)
        following = asyncio.create_task(book.run())
        lease = ConsulLease(client, clock, f"{prefix}leader", "test", LeaseSettings())
        try:
            await asyncio.wait_for(book.moved_from(ADDRESS), 5.0)  # nobody leads yet
            assert await lease.acquire(5.0)
            await ConsulStore(client, clock, prefix, lease, ADDRESS).raise_epoch()
            await auntil(lambda: book.known == Leader(epoch=1, address=ADDRESS))
            gone = asyncio.create_task(book.moved_from(ADDRESS))
            await ConsulStore(client, clock, prefix, lease, ADDRESS).raise_epoch()
            await auntil(lambda: book.known == Leader(epoch=2, address=ADDRESS))
            assert not gone.done(), "it is called where it was"
            await ConsulStore(client, clock, prefix, lease, f"{ADDRESS}1").raise_epoch()
            await asyncio.wait_for(gone, 5.0)
        finally:
            await cancelled(following)


async def until_somebody_leads(client: ConsulClient, prefix: str, index: int) -> tuple[int, Leader]:
    while True:
        index, found = await watch_leader(client, prefix, index, 30.0)
        if found is not None:
            return index, found


async def test_a_wait_ends_by_itself(consul_agent: ConsulAgent) -> None:
    prefix = f"{uuid.uuid4()}/"
    async with ConsulClient(ConsulSettings(port=consul_agent.port)) as client:
        index, _ = await watch_leader(client, prefix, 0, 0.0)
        again, found = await asyncio.wait_for(watch_leader(client, prefix, index, 0.1), 5.0)
        assert again >= index and found is None


async def test_an_index_of_another_life_is_forgotten(consul_agent: ConsulAgent) -> None:
    async with ConsulClient(ConsulSettings(port=consul_agent.port)) as client:
        index, _ = await watch_leader(client, f"{uuid.uuid4()}/", 2**40, 0.1)
        assert index == 0


async def test_a_value_that_is_none_of_ours_names_its_key(consul_agent: ConsulAgent) -> None:
    prefix = f"{uuid.uuid4()}/"
    async with ConsulClient(ConsulSettings(port=consul_agent.port)) as client:
        lease = ConsulLease(client, SystemClock(), f"{prefix}leader", "t", LeaseSettings())
        assert await lease.acquire(5.0)
        value = base64.b64encode(b"somebody's notes").decode()
        write = {"KV": {"Verb": "set", "Key": f"{prefix}leader", "Value": value}}
        assert (await client.put("/v1/txn", [write])).status == 200
        with pytest.raises(ConfigError, match=f"{prefix}leader: .*mend it"):
            await leader_of(client, prefix)
        await lease.release()


async def test_without_consul_it_is_not_known() -> None:
    async with ConsulClient(ConsulSettings(port=1)) as client:
        with pytest.raises(Unavailable):
            await leader_of(client)


async def put(client: ConsulClient, key: str, value: bytes | None) -> None:
    text = {} if value is None else {"Value": base64.b64encode(value).decode()}
    write = {"KV": {"Verb": "delete" if value is None else "set", "Key": key, **text}}
    assert (await client.put("/v1/txn", [write])).status == 200


@pytest.mark.parametrize("left", [None, b'{"epoch":3,"address":""}'])
async def test_an_epoch_is_above_those_of_all_orders_whatever_became_of_the_key(
    consul_agent: ConsulAgent, left: bytes | None
) -> None:
    prefix = f"{uuid.uuid4()}/"
    async with ConsulClient(ConsulSettings(port=consul_agent.port)) as client:
        for api, order in (("iris", b'{"epoch":57,"later":1}'), ("text", b"garbage")):
            await put(client, f"{prefix}routes/{api}", order)
        await put(client, f"{prefix}leader", left)
        assert await ConsulStore(client, SystemClock(), prefix).raise_epoch() == 58


async def test_a_writer_learns_that_its_epoch_is_over_or_cannot_be_read(
    consul_agent: ConsulAgent,
) -> None:
    prefix = f"{uuid.uuid4()}/"
    async with ConsulClient(ConsulSettings(port=consul_agent.port)) as client:
        store = ConsulStore(client, SystemClock(), prefix)
        epoch = await store.raise_epoch()
        await put(client, f"{prefix}leader", b"somebody's notes")
        for _ in range(2):  # the first finds the key changed, the second reads it
            with pytest.raises((Refused, Unavailable)) as caught:
                await store.commit([Write(key="a", value=b"1")], epoch)
        assert isinstance(caught.value, Unavailable) and "mend it" in str(caught.value)
        assert not store.outrun.is_set()
        await put(client, f"{prefix}leader", b'{"epoch":50,"address":"x"}')
        with pytest.raises(Refused, match="50 has been seen"):
            await store.commit([Write(key="a", value=b"1")], epoch)
        assert store.outrun.is_set()
        epoch = await store.raise_epoch()
        assert epoch == 51 and not store.outrun.is_set()
        await store.commit([Write(key="a", value=b"1")], epoch)
