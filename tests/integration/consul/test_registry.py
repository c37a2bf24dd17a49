"""The registry of a cluster when there are many APIs, and when Consul goes away."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest

from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.registry import WAIT_S, ConsulRegistry
from serai.consul.services import meta_of, service_name
from serai.model import Server
from tests.cluster.agents import ConsulAgent, consul
from tests.support.rewriting_proxy import RewritingProxy, rewriting_proxy
from tests.support.wait import auntil
from tests.unit.edge.values import server

pytestmark = pytest.mark.engines
APIS = 250


def put(agent: ConsulAgent, path: str, body: Any = None) -> None:
    url = f"http://127.0.0.1:{agent.port}/v1/agent/{path}"
    with urlopen(Request(url, json.dumps(body).encode(), method="PUT"), timeout=5):
        return


def register(agent: ConsulAgent, one: Server, **meta: str) -> None:
    instance = {
        "ID": one.id,
        "Name": service_name(one.api),
        "Address": one.host,
        "Port": one.port,
        "Meta": {**meta_of(one, 0), **meta},
        "Check": {"CheckID": f"ready:{one.id}", "TTL": "1h", "Status": "passing"},
    }
    put(agent, "service/register", instance)


@asynccontextmanager
async def followed(
    agent: ConsulAgent | RewritingProxy, wait_s: float = WAIT_S
) -> AsyncIterator[ConsulRegistry]:
    async with ConsulClient(ConsulSettings(port=agent.port)) as client:
        registry = ConsulRegistry(client, SystemClock(), wait_s)
        running = asyncio.create_task(registry.run())
        try:
            yield registry
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def until(
    registry: ConsulRegistry, holds: Callable[[tuple[Server, ...]], bool], within_s: float = 20.0
) -> None:
    after = -1
    async with asyncio.timeout(within_s):
        while not holds((found := await registry.watch(after, within_s)).servers):
            after = found.revision


async def test_one_gateway_follows_250_apis(tmp_path: Path) -> None:
    with consul(tmp_path / "own") as agent:
        servers = [server(api=f"api-{number}") for number in range(APIS)]
        for one in servers:
            register(agent, one)
        async with followed(agent) as registry:
            await until(registry, lambda found: len(found) == APIS)
            # All wait at once, each on a connection of its own.
            await auntil(lambda: len(psutil.Process().net_connections()) > APIS)
            put(agent, f"check/fail/ready:{servers[7].id}")
            await until(registry, lambda found: servers[7] not in found, within_s=2.0)
            put(agent, f"service/deregister/{servers[8].id}")
            await until(registry, lambda found: servers[8] not in found, within_s=2.0)
            assert len((await registry.watch(-1, 0)).servers) == APIS - 2
            put(agent, f"check/pass/ready:{servers[7].id}")
            await until(registry, lambda found: servers[7] in found, within_s=2.0)


async def test_while_consul_is_away_the_last_list_stays(tmp_path: Path) -> None:
    with consul(tmp_path / "own") as agent:
        one, two = server(), server(number=2)
        register(agent, one)
        async with followed(agent) as registry:
            await until(registry, lambda found: found == (one,))
            before = await registry.watch(-1, 0)
            agent.kill()
            assert await registry.watch(before.revision, 1.0) == before
            agent.start()
            register(agent, two)
            put(
                agent, f"check/pass/ready:{one.id}"
            )  # a new Consul does not trust a check of before
            await until(registry, lambda found: set(found) == {one, two})


async def test_run_again_after_its_end_it_follows_again(tmp_path: Path) -> None:
    """It took the APIs of before for followed, whose queries had ended with the first run."""
    one, two, gone = server(api="again"), server(api="again", number=2), server(api="gone")
    with consul(tmp_path / "own") as agent:
        async with ConsulClient(ConsulSettings(port=agent.port)) as client:
            registry = ConsulRegistry(client, SystemClock())
            register(agent, gone)
            for new, old in ((one, gone), (two, one)):
                running = asyncio.create_task(registry.run())
                register(agent, new)
                wanted = {new, old}
                await until(registry, lambda found, w=wanted: set(found) == w, 5.0)  # type: ignore[misc]
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                put(agent, f"service/deregister/{old.id}")


async def test_an_instance_that_cannot_be_read_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was told at each change when no other instance of its service could be read."""

    def told() -> int:
        return sum("takes no traffic" in record.message for record in caplog.records)

    odd, good = server(api="odd"), server(api="odd", number=2)
    with consul(tmp_path / "own") as agent:
        register(agent, odd, process="-1")
        async with followed(agent) as registry:
            await auntil(lambda: told() == 1)
            for _ in range(2):
                register(agent, good)
                await until(registry, lambda found: found == (good,))
                put(agent, f"service/deregister/{good.id}")
                await until(registry, lambda found: found == ())
    assert told() == 1


def failing(api: str) -> dict[bytes, bytes]:
    """Return what makes a Consul know nothing of the query for one API."""
    asked = f"/v1/health/service/{service_name(api)}?".encode()
    return {asked: asked.replace(b"service", b"nothing")}


async def test_a_query_that_fails_from_the_start_keeps_back_its_own_api_alone(
    tmp_path: Path,
) -> None:
    """It kept all servers of all APIs back, for as long as it failed."""
    good, bad = server(api="good"), server(api="bad")
    with consul(tmp_path / "own") as agent, rewriting_proxy(agent.port) as between:
        between.asked = failing("bad")
        for one in (good, bad):
            register(agent, one)
        async with followed(between) as registry:
            await until(registry, lambda found: found == (good,))
            assert list((await registry.watch(-1, 0)).unheard) == ["bad"]
            (told,) = registry.problems()
            assert told.startswith("servers of bad: not heard for 0 s: not the answer of a Consul")
            between.asked = {}
            await until(registry, lambda found: found == (bad, good))
            assert (await registry.watch(-1, 0)).unheard == {} and registry.problems() == ()


async def test_a_query_that_begins_to_fail_leaves_what_was_heard_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    good, bad = server(api="good"), server(api="bad")
    with consul(tmp_path / "own") as agent, rewriting_proxy(agent.port) as between:
        for one in (good, bad):
            register(agent, one)
        async with followed(between, wait_s=0.2) as registry:
            await until(registry, lambda found: found == (bad, good))
            between.asked = failing("bad")
            await auntil(registry.problems)
            put(agent, f"check/fail/ready:{good.id}")
            await until(registry, lambda found: found == (bad,))
            put(agent, f"service/deregister/{bad.id}")
            await until(registry, lambda found: found == ())
            assert registry.problems() == (), "an API that is named no more has none to be heard"
