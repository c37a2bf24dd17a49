"""The store and the lease of a cluster when Consul, or the leader itself, fails."""

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.lease import ConsulLease
from serai.consul.store import ConsulStore
from serai.errors import Refused, Unavailable
from serai.lease import LeaseSettings
from serai.store import Write
from tests.cluster.agents import ConsulAgent, consul

pytestmark = pytest.mark.engines

SHORT = LeaseSettings(ttl_s=1.0, margin_s=0.3, lock_delay_s=0.2)
DELUDED = LeaseSettings(ttl_s=1.0, margin_s=-1000.0, lock_delay_s=0.2)
"""Its holder goes on to believe in its lease, as one whose clock stood still would."""


def put(key: str, value: str, expect: int | None = None) -> Write:
    return Write(key=key, value=value.encode(), expect=expect)


@pytest.fixture
async def client(consul_agent: ConsulAgent) -> AsyncIterator[ConsulClient]:
    async with ConsulClient(ConsulSettings(port=consul_agent.port)) as made:
        yield made


@asynccontextmanager
async def own_consul(folder: Path) -> AsyncIterator[tuple[ConsulAgent, ConsulClient]]:
    with consul(folder / "own") as agent:
        async with ConsulClient(ConsulSettings(port=agent.port)) as client:
            yield agent, client


def leader(
    client: ConsulClient, prefix: str, settings: LeaseSettings
) -> tuple[ConsulLease, ConsulStore]:
    clock = SystemClock()
    lease = ConsulLease(client, clock, f"{prefix}leader", "test", settings)
    return lease, ConsulStore(client, clock, prefix, lease)


async def test_a_leader_that_slept_through_its_end_writes_nothing(client: ConsulClient) -> None:
    prefix = f"{uuid.uuid4()}/"
    old_lease, old = leader(client, prefix, DELUDED)
    new_lease, new = leader(client, prefix, SHORT)
    assert await old_lease.acquire(0)
    old_epoch = await old.raise_epoch()
    await old.commit([put("apis/a", "old")], old_epoch)
    assert await new_lease.acquire(20)
    assert old_lease.held, "it believes so"
    with pytest.raises(Refused) as caught:  # before the new one has raised the epoch, too
        await old.commit([put("apis/a", "too late")], old_epoch)
    assert caught.value.code == "fenced"
    with pytest.raises(Refused) as caught:
        await old.raise_epoch()
    assert caught.value.code == "fenced"
    new_epoch = await new.raise_epoch()
    assert new_epoch == old_epoch + 1
    with pytest.raises(Refused):
        await old.commit([put("apis/a", "too late")], old_epoch)
    entry = await new.get("apis/a")
    assert entry is not None and entry.value == b"old"
    await new.commit([put("apis/a", "new")], new_epoch)
    await new_lease.release()
    with pytest.raises(Refused):
        await new.commit([put("apis/a", "after it gave the lease back")], new_epoch)


async def test_the_epoch_survives_every_leader(client: ConsulClient) -> None:
    prefix = f"{uuid.uuid4()}/"
    epochs = []
    for _ in range(3):
        lease, store = leader(client, prefix, SHORT)
        assert await lease.acquire(5)
        epochs.append(await store.raise_epoch())
        await lease.renew()
        await store.commit([put("a", "1")], epochs[-1])
        await lease.release()
    assert epochs == [1, 2, 3]


async def test_consul_away_is_told_and_its_data_stay(tmp_path: Path) -> None:
    async with own_consul(tmp_path) as (agent, client):
        store = ConsulStore(client, SystemClock())
        epoch = await store.raise_epoch()
        revision = await store.commit([put("apis/a", "1")], epoch)
        watching = asyncio.create_task(store.watch("apis/", revision, wait_s=60))
        agent.kill()
        with pytest.raises(Unavailable):
            await watching
        with pytest.raises(Unavailable, match=str(agent.port)):
            await store.commit([put("apis/a", "2")], epoch)
        agent.start()
        assert (await store.scan("apis/")).revision == revision
        await store.commit([put("apis/a", "2", expect=revision)], epoch)


async def test_a_consul_that_lost_its_data_is_noticed(tmp_path: Path) -> None:
    async with own_consul(tmp_path) as (agent, client):
        store = ConsulStore(client, SystemClock())
        epoch = await store.raise_epoch()
        for number in range(100):
            revision = await store.commit([put("apis/a", str(number))], epoch)
        agent.kill()
        shutil.rmtree(agent.folder / "data")
        agent.start()
        found = await asyncio.wait_for(store.watch("apis/", revision, wait_s=60), 10)
        assert found.revision < revision and found.entries == ()
        with pytest.raises(Refused) as caught:
            await store.commit([put("apis/a", "as if nothing was")], epoch)
        assert caught.value.code == "fenced"


async def test_a_token_that_does_not_suffice_is_told(tmp_path: Path) -> None:
    token = str(uuid.uuid4())
    with consul(tmp_path / "own", token) as agent:
        for given in ("", str(uuid.uuid4())):
            async with ConsulClient(ConsulSettings(port=agent.port, token=given)) as client:
                with pytest.raises(Refused) as caught:
                    await ConsulStore(client, SystemClock()).commit([put("a", "1")], 0)
                assert caught.value.code == "consul_forbidden"
        async with ConsulClient(ConsulSettings(port=agent.port, token=token)) as client:
            await ConsulStore(client, SystemClock()).commit([put("a", "1")], 0)


async def test_a_paused_consul_holds_nobody_up_for_long(tmp_path: Path) -> None:
    async with own_consul(tmp_path) as (agent, client):
        lease, _ = leader(client, "p/", SHORT)
        assert await lease.acquire(0)
        agent.pause()
        await SystemClock().sleep(SHORT.ttl_s)
        assert not lease.held, "it may not act on a lease that it could not renew"
        agent.resume()
        with pytest.raises(Refused):
            await lease.renew()
        assert await lease.acquire(20)
