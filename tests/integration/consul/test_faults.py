"""The store and the lease of a cluster when Consul, or the leader itself, fails."""

import asyncio
import json
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from serai.clock import SimClock, SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.lease import ConsulLease
from serai.consul.store import MARK_HOLDS_S, ConsulStore
from serai.errors import Refused, Unavailable
from serai.lease import LeaseSettings
from serai.store import Write
from tests.cluster.agents import ConsulAgent, consul
from tests.support.losing_proxy import losing_proxy

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


async def test_a_commit_whose_answer_is_lost_is_not_sent_again(consul_agent: ConsulAgent) -> None:
    """aiohttp did so on a kept connection: the second met the first and was told a conflict."""
    async with (
        losing_proxy(consul_agent.port, b"PUT /v1/txn ") as proxy,
        ConsulClient(ConsulSettings(port=proxy.port)) as client,
    ):
        store = ConsulStore(client, SystemClock(), f"{uuid.uuid4()}/")
        revision = await store.commit([put("a", "1")], 0)
        proxy.lose, before = 1, proxy.passed
        with pytest.raises(Unavailable):
            await store.commit([put("a", "2", expect=revision)], 0)
        assert proxy.passed == before + 1
        entry = await store.get("a")
        assert entry is not None and entry.value == b"2"


async def test_a_lock_that_was_taken_away_is_noticed_at_the_next_renewal(
    client: ConsulClient,
) -> None:
    """The session lives on, so that its holder went on to lead beside the next one."""
    prefix = f"{uuid.uuid4()}/"
    (first, _), (second, _) = leader(client, prefix, SHORT), leader(client, prefix, SHORT)
    assert await first.acquire(0)
    await client.put("/v1/txn", [{"KV": {"Verb": "delete", "Key": f"{prefix}leader"}}])
    assert await second.acquire(0)
    with pytest.raises(Refused) as caught:
        await first.renew()
    assert caught.value.code == "lease_lost" and not first.held
    await second.renew()
    assert second.held


async def test_who_gives_the_lease_back_holds_it_no_more_from_then_on(
    client: ConsulClient,
) -> None:
    lease, _ = leader(client, f"{uuid.uuid4()}/", SHORT)
    assert await lease.acquire(0)
    releasing = asyncio.create_task(lease.release())
    while not releasing.done():
        await SystemClock().sleep(0)
        assert not lease.held, "another may have it before the answer is here"


class HastyClock(SystemClock):
    """Half a second passes between any two looks at it, as on a line that is slow."""

    def __init__(self) -> None:
        self._looks = 0

    def now(self) -> float:
        self._looks += 1
        return super().now() + self._looks / 2


async def test_who_is_too_slow_for_the_lease_leaves_it_to_others(client: ConsulClient) -> None:
    """It locked the key and renewed its session for ever, and never came to act."""
    prefix = f"{uuid.uuid4()}/"
    slow = ConsulLease(client, HastyClock(), f"{prefix}leader", "test", SHORT)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="slowly"):
            await slow.acquire(0)
    other, _ = leader(client, prefix, SHORT)
    assert await other.acquire(0)


async def test_a_token_that_may_only_read_or_is_withdrawn_is_told(tmp_path: Path) -> None:
    """A transaction that is not allowed comes with 409, as one that met another's change does."""
    root = str(uuid.uuid4())
    rules = 'key_prefix "" {{ policy = "{}" }} session_prefix "" {{ policy = "write" }}'
    with consul(tmp_path / "own", root) as agent:
        async with ConsulClient(ConsulSettings(port=agent.port, token=root)) as client:
            tokens = []
            for policy in ("read", "write"):
                body = {"Name": policy, "Rules": rules.format(policy)}
                await client.put("/v1/acl/policy", body)
                made = await client.put("/v1/acl/token", {"Policies": [{"Name": policy}]})
                tokens.append(json.loads(made.body))
        reads, writes = (token["SecretID"] for token in tokens)
        async with ConsulClient(ConsulSettings(port=agent.port, token=reads)) as client:
            lease, _ = leader(client, "p/", SHORT)
            store = ConsulStore(client, SystemClock())
            for call in (store.commit([put("a", "1")], 0), store.raise_epoch(), lease.acquire(0)):
                with pytest.raises(Refused) as caught:
                    await call
                assert caught.value.code == "consul_forbidden"
        async with ConsulClient(ConsulSettings(port=agent.port, token=writes)) as client:
            lease, _ = leader(client, "q/", SHORT)
            assert await lease.acquire(0)
            await lease.renew()
            await _withdraw(agent, root, tokens[1]["AccessorID"])
            with pytest.raises(Refused):
                await lease.renew()
            await lease.release()
            assert not lease.held


async def _withdraw(agent: ConsulAgent, root: str, accessor: str) -> None:
    url = f"http://127.0.0.1:{agent.port}/v1/acl/token/{accessor}"
    request = Request(url, method="DELETE", headers={"X-Consul-Token": root})
    (await asyncio.to_thread(urlopen, request)).close()


async def test_a_mark_is_another_one_after_consul_was_away(consul_agent: ConsulAgent) -> None:
    """Else what came back with other data and the same index would not be read anew."""
    async with (
        losing_proxy(consul_agent.port, b"GET /v1/kv") as proxy,
        ConsulClient(ConsulSettings(port=proxy.port)) as client,
    ):
        store = ConsulStore(client, SystemClock(), f"{uuid.uuid4()}/")
        await store.commit([put("apis/a", "1")], epoch=0)
        first = await store.mark()
        assert first == await store.mark()
        proxy.lose = 10
        with pytest.raises(Unavailable):
            await store.mark()
        proxy.lose = 0
        assert first != await store.mark()


async def test_a_mark_is_not_believed_in_for_long(client: ConsulClient) -> None:
    """Consul forgets what it knows of deleted keys, and its index goes back."""
    clock = SimClock()
    store = ConsulStore(client, clock, f"{uuid.uuid4()}/")
    await store.commit([put("apis/a", "1")], epoch=0)
    first = await store.mark()
    await clock.sleep(MARK_HOLDS_S - 1)
    assert first == await store.mark()
    await clock.sleep(MARK_HOLDS_S + 1)
    assert first != await store.mark()
