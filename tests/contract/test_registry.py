"""One suite for every registry: what is published is listed, and watchers hear of changes."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.request import Request, urlopen

import pytest

from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.registry import ConsulRegistry
from serai.consul.services import meta_of, service_name
from serai.memory import MemoryRegistry
from serai.model import Server
from serai.registry import Listing, Registry
from tests.cluster.agents import ConsulAgent
from tests.unit.edge.values import server

WITHIN_S = 10.0


class Both:
    """Both ends of one registry. An API's name is another in each test: agents are shared."""

    def __init__(
        self, registry: Registry, publish: Callable[[Sequence[Server]], Awaitable[None]], api: str
    ) -> None:
        self._registry = registry
        self._api = api
        self.publish = publish

    def server(self, number: int = 1) -> Server:
        return server(api=self._api, number=number)

    async def watch(self, after: int, wait_s: float) -> Listing:
        listing = await self._registry.watch(after, wait_s)
        own = tuple(server for server in listing.servers if server.api == self._api)
        return Listing(revision=listing.revision, servers=own)

    async def until(self, *servers: Server) -> Listing:
        """Return the first listing with just these servers."""
        after = -1
        async with asyncio.timeout(WITHIN_S):
            while (found := await self.watch(after, WITHIN_S)).servers != servers:
                after = found.revision
        return found


def publisher(agent: ConsulAgent, api: str) -> Callable[[Sequence[Server]], Awaitable[None]]:
    """Return what makes exactly these servers the instances of an API, as Nomad does."""
    present: set[str] = set()

    def put(path: str, body: object = None) -> None:
        url = f"http://127.0.0.1:{agent.port}/v1/agent/service/{path}"
        data = json.dumps(body).encode() if body is not None else b""
        with urlopen(Request(url, data, method="PUT"), timeout=5):
            return

    def make_so(servers: Sequence[Server]) -> None:
        for number, one in enumerate(servers):
            instance = {
                "ID": one.id,
                "Name": service_name(api),
                "Address": one.host,
                "Port": one.port,
                "Meta": meta_of(one, int(one.id.rpartition(".")[2])),
                "Check": {"CheckID": f"ready {one.id}", "TTL": "1h", "Status": "passing"},
            }
            put("register", instance)
            assert number < 100
        for gone in present - {one.id for one in servers}:
            put(f"deregister/{gone}")
        present.clear()
        present.update(one.id for one in servers)

    async def publish(servers: Sequence[Server]) -> None:
        await asyncio.to_thread(make_so, servers)

    return publish


@pytest.fixture(params=["memory", pytest.param("consul", marks=pytest.mark.engines)])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    api = f"a{uuid.uuid4().hex[:12]}"
    if request.param == "memory":
        made = MemoryRegistry()

        async def publish(servers: Sequence[Server]) -> None:
            made.publish(servers)

        yield Both(made, publish, api)
        return
    agent: ConsulAgent = request.getfixturevalue("consul_agent")
    async with ConsulClient(ConsulSettings(port=agent.port)) as client:
        found = ConsulRegistry(client, SystemClock())
        running = asyncio.create_task(found.run())
        both = Both(found, publisher(agent, api), api)
        yield both
        await both.publish([])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_lists_what_was_published_last_whatever_the_order(registry: Both) -> None:
    one, two = registry.server(1), registry.server(2)
    await registry.publish([two, one])
    await registry.until(one, two)
    await registry.publish([two])
    await registry.until(two)


async def test_the_revision_rises_with_changes_and_with_nothing_else(registry: Both) -> None:
    await registry.publish([registry.server()])
    first = await registry.until(registry.server())
    await registry.publish([registry.server()])
    assert (await registry.watch(first.revision, 0.3)).revision == first.revision
    await registry.publish([])
    assert (await registry.until()).revision > first.revision


async def test_a_watcher_hears_of_a_change_at_once(registry: Both) -> None:
    await registry.publish([])
    async with asyncio.timeout(WITHIN_S):
        before = await registry.watch(0, 60.0)
        assert before.revision > 0 and before.servers == ()
        waiting = asyncio.create_task(registry.watch(before.revision, 60.0))
        await registry.publish([registry.server()])
        assert (await waiting).servers == (registry.server(),)


async def test_a_watcher_gets_the_same_list_when_its_time_is_over(registry: Both) -> None:
    await registry.publish([registry.server()])
    before = await registry.until(registry.server())
    assert await registry.watch(before.revision, 0.01) == before
