"""A real agent as a gateway: what it tells Consul, and who may die without a lost request."""

import asyncio
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import aiohttp
import msgspec
import pytest

from serai_agent.edge.socket import reachable
from tests.cluster.agents import ConsulAgent, consul
from tests.cluster.serai_agents import Orders, SeraiAgent, agents
from tests.integration.edge.asking import get
from tests.support.dns import addresses, ports
from tests.support.gateways import Backend, route
from tests.support.traffic import Traffic, steadily
from tests.support.wait import auntil

pytestmark = pytest.mark.engines
NAME = "serai-gateway.service.consul"
REQUESTS_PER_S = 100
MANAGEMENT = "00000000-0000-0000-0000-00000000aaaa"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(20)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


def answers(
    client: aiohttp.ClientSession, agent: SeraiAgent, status: int = 200, path: str = "/iris"
) -> Callable[[], Awaitable[bool]]:
    async def probe() -> bool:
        try:
            return (await get(client, agent.url + path))[0] == status
        except aiohttp.ClientError:
            return False

    return probe


async def some_more(traffic: Traffic) -> None:
    """Return when as many answers have come as two seconds bring."""
    enough = traffic.answered + 2 * REQUESTS_PER_S
    await auntil(lambda: traffic.answered + len(traffic.failed) >= enough)


async def serving(
    orders: Orders, backend: Backend, gateways: list[SeraiAgent], capacity: int = 4
) -> None:
    """Order one API with one replica, and wait until all gateways serve it and are known."""
    # What stands still for a moment on a busy machine must wait, not be refused.
    await orders.order(route(epoch=orders.epoch, queue_limit=1000))
    await orders.register(backend.server(capacity=capacity))
    for agent in gateways:
        await auntil(partial(asyncio.to_thread, agent.ready), 20.0, agent.log)
    await auntil(
        lambda: all_pass(orders, gateways), what=lambda: "\n".join(one.log() for one in gateways)
    )


async def all_pass(orders: Orders, gateways: list[SeraiAgent]) -> bool:
    return await orders.checks() == dict.fromkeys((one.name for one in gateways), "passing")


async def test_consul_names_a_gateway_as_long_as_haproxy_takes_requests(
    tmp_path: Path, client: aiohttp.ClientSession, backend: Backend
) -> None:
    with consul(tmp_path / "consul") as there, agents(tmp_path, there, "one") as (one,):
        async with Orders(there.port) as orders:
            assert await asyncio.to_thread(addresses, there.dns, NAME) == []
            await serving(orders, backend, [one])
            assert (await get(client, f"{one.url}/iris"))[0] == 200
            assert await asyncio.to_thread(addresses, there.dns, NAME) == ["127.0.0.1"]
            assert await asyncio.to_thread(ports, there.dns, NAME) == [one.gateway]
            assert "haproxy_process_" in await asyncio.to_thread(one.metrics, "/metrics/gateway")
            pid = one.haproxy()
            assert pid is not None
            async with steadily(f"{one.url}/iris", REQUESTS_PER_S) as traffic:
                one.pause()
                await some_more(traffic)
                one.kill()
                await some_more(traffic)
                assert await all_pass(orders, [one])
                await asyncio.to_thread(one.start)
                assert one.haproxy() == pid, "an agent that starts touches no HAProxy"
                await some_more(traffic)
                assert one.process is not None
                one.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(one.process.wait, 10) == 0
                assert one.haproxy() == pid, "nor one that ends"
                await some_more(traffic)
            assert traffic.failed == []
            assert await all_pass(orders, [one])


async def test_without_consul_everything_goes_on_from_what_is_known(
    tmp_path: Path, client: aiohttp.ClientSession, backend: Backend
) -> None:
    with consul(tmp_path / "consul") as there, agents(tmp_path, there, "one") as (one,):
        async with Orders(there.port) as orders:
            await serving(orders, backend, [one])
        async with steadily(f"{one.url}/iris", REQUESTS_PER_S) as traffic:
            await some_more(traffic)
            there.kill()
            await some_more(traffic)
        assert traffic.failed == []
        one.stop()  # and HAProxy with it: all that is left are the files
        one.start()
        await auntil(answers(client, one))
        await auntil(lambda: _told(one, "routes: Consul at "))
        pid = one.haproxy()
        assert pid is not None
        one.kill()
        one.start()
        assert one.haproxy() == pid and await answers(client, one)()


async def test_a_consul_that_lost_its_data_is_not_believed(
    tmp_path: Path, client: aiohttp.ClientSession, backend: Backend
) -> None:
    with consul(tmp_path / "consul") as there, agents(tmp_path, there, "one") as (one,):
        async with Orders(there.port) as orders:
            await orders.lead(5)
            await serving(orders, backend, [one])
        forget_all(there)
        async with Orders(there.port) as orders:
            assert orders.epoch == 1, "all is lost, the epoch too"
            # The gateway is there again, with the routes that nobody orders any more.
            await auntil(lambda: all_pass(orders, [one]), 20.0)
            lost = "routes: the store has lost orders of epoch 5 (its leader's epoch: 1)"
            await auntil(lambda: _told(one, lost), 10.0)
            await orders.register(backend.server())
            for _ in range(20):
                assert (await get(client, f"{one.url}/iris"))[0] == 200
            await orders.lead(6)  # one who knows that there is nothing
            await auntil(answers(client, one, 404), 20.0)
            await auntil(lambda: asyncio.to_thread(one.ready))


async def _told(agent: SeraiAgent, line: str) -> bool:
    return any(line in problem for problem in await asyncio.to_thread(agent.problems))


def forget_all(there: ConsulAgent) -> None:
    there.kill()
    shutil.rmtree(there.folder / "data")
    there.start()


async def test_a_replica_is_shared_by_the_gateways_that_are_alive(
    tmp_path: Path, backend: Backend
) -> None:
    with consul(tmp_path / "consul") as there, agents(tmp_path, there, "a", "b") as both:
        one, other = both
        async with Orders(there.port) as orders:
            await serving(orders, backend, both, capacity=5)
            await auntil(lambda: sorted(room(agent) for agent in both) == [2, 3])
            share = room(one)
            other.stop()  # its HAProxy, too
            await auntil(lambda: room(one) == 5, 10.0)
            other.start()
            await auntil(lambda: sorted(room(agent) for agent in both) == [2, 3], 10.0)
            there.kill()
            other.stop()
            one.kill()
            one.start()
            assert room(one) == share, "who cannot see the others keeps its share"


async def test_replicas_with_fewer_slots_than_gateways_belong_to_that_many(
    tmp_path: Path, client: aiohttp.ClientSession, backend: Backend
) -> None:
    """Each gateway computes for itself what HAProxy is told; together they have each slot once."""
    slots, numbers = 2, (1, 2, 3)
    with consul(tmp_path / "consul") as there, agents(tmp_path, there, "a", "b", "c") as three:
        async with Orders(there.port) as orders:
            await serving(orders, backend, three, capacity=slots)
            servers = [backend.server(number=number, capacity=slots) for number in numbers]
            for server in servers:
                await orders.register(server)

            def rooms() -> list[list[int]]:
                return [sorted(room(agent, one.id) for agent in three) for one in servers]

            await auntil(lambda: rooms() == [[0, 1, 1]] * len(servers), 20.0, str(rooms()))
            for agent in three:
                assert (await get(client, f"{agent.url}/iris"))[0] == 200


def room(agent: SeraiAgent, server: str = "iris.v1.1.0") -> int:
    """Return what a gateway's HAProxy lets through to the replica at once."""
    path = agent.data / "gateway" / "stats.sock"
    with socket.socket(socket.AF_UNIX) as stats:
        try:
            with reachable(path) as short:
                stats.connect(short)
        except OSError:
            return 0
        stats.sendall(b"show stat -1 4 -1\n")
        text = b"".join(iter(lambda: stats.recv(65536), b"")).decode()
    rows = [line.split(",") for line in text.splitlines()]
    found = [int(row[6]) for row in rows if len(row) > 6 and row[1] == server]
    return sum(found)


async def test_routes_follow_the_store_and_replicas_the_registry(
    tmp_path: Path, client: aiohttp.ClientSession, backend: Backend
) -> None:
    with consul(tmp_path / "consul") as there, agents(tmp_path, there, "one") as (one,):
        async with Orders(there.port) as orders:
            await serving(orders, backend, [one])
            moved = route(endpoint="/other", revision=2, epoch=orders.epoch)
            await orders.order(moved)
            await auntil(answers(client, one, 200, "/other"), 5.0)
            assert (await get(client, f"{one.url}/iris"))[0] == 404
            second = msgspec.structs.replace(backend.server(number=2), capacity=3)
            await orders.register(second)
            await auntil(lambda: room(one, "iris.v1.2.0") == 3, 5.0)
            await orders.deregister(second)
            await auntil(lambda: room(one, "iris.v1.2.0") == 0, 5.0)
            await orders.delete("iris")
            await auntil(answers(client, one, 404, "/other"), 5.0)


async def test_the_rights_that_the_page_names_suffice(
    tmp_path: Path, client: aiohttp.ClientSession, backend: Backend
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "agent.md").read_text()
    rules = [
        f'{kind} "{name}" {{ policy = "{policy}" }}'
        for kind, name, policy in re.findall(r'`(\w+) "([^"]*)" (\w+)`', page)
    ]
    assert len(rules) == 5
    with consul(tmp_path / "consul", MANAGEMENT) as there:
        async with Orders(there.port, MANAGEMENT) as orders:
            one = SeraiAgent(
                tmp_path / "one",
                there.port,
                consul_token=await orders.token_with("\n".join(rules), name="agent"),
            )
            try:
                one.start()
                await serving(orders, backend, [one])
                assert (await get(client, f"{one.url}/iris"))[0] == 200
            finally:
                one.stop()
            powerless = SeraiAgent(
                tmp_path / "two", there.port, consul_token=await orders.token_with("", name="none")
            )
            try:
                powerless.start()
                await auntil(lambda: _told(powerless, "routes: Consul at "))
                told = await asyncio.to_thread(powerless.problems)
                assert any("refuses the token" in line for line in told)
                assert "the gateway has had no orders yet" in told
            finally:
                powerless.stop()
