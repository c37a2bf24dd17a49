"""Nodes of a real Nomad: closed to new replicas and opened again, by Serai and by Nomad's means."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from serai.clock import SystemClock
from serai.engine import Capacity, EngineNode
from serai.errors import Refused
from serai.model import ReplicaState
from serai_scheduler.nomad.client import NomadClient, NomadSettings
from serai_scheduler.nomad.drains import Drains, deadline_of
from serai_scheduler.nomad.engine import NomadEngine
from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad
from tests.integration.local.world import ready, replica_of
from tests.integration.nomad.test_client import sleeping
from tests.support.losing_proxy import losing_proxy
from tests.support.nomad_engine import nomad_engine_on, version
from tests.support.wait import auntil

pytestmark = pytest.mark.engines
ONE = version()
DEAF = "trap '' TERM; while :; do sleep 1; done"
FIRST, SECOND = (f"{ONE.api}.{ONE.name}.{number}" for number in (1, 2))


@pytest.fixture
def nomad(tmp_path: Path) -> Iterator[NomadAgent]:
    with own_nomad(tmp_path / "own") as agent:
        yield agent


async def node(engine: NomadEngine) -> EngineNode:
    (only,) = await engine.nodes()
    return only


async def until_node(engine: NomadEngine, *, takes: bool) -> EngineNode:
    async def so() -> bool:
        return (await node(engine)).takes is takes

    await auntil(so)
    return await node(engine)


async def test_a_closed_node_keeps_what_it_has_and_takes_nothing_new(
    nomad: NomadAgent, tmp_path: Path
) -> None:
    async with nomad_engine_on(nomad, tmp_path) as engine:
        name = (await node(engine)).name
        await engine.start([FIRST], ONE, epoch=1)
        await ready(engine, FIRST)
        await engine.take(name, False, epoch=1)
        closed = await until_node(engine, takes=False)
        assert (closed.closed, closed.reason) == (True, "closed to new replicas")
        await engine.start([SECOND], ONE, epoch=1)

        async def told() -> bool:
            waiting = await replica_of(engine, SECOND)
            return "cordoned" in waiting.reason

        await auntil(told)
        assert (await replica_of(engine, FIRST)).state is ReplicaState.READY
        await engine.take(name, True, epoch=1)
        await ready(engine, SECOND)
        with pytest.raises(Refused, match="no node elsewhere"):
            await engine.take("elsewhere", False, epoch=1)


async def test_a_drain_of_nomads_own_is_seen(nomad: NomadAgent, tmp_path: Path) -> None:
    async with nomad_engine_on(nomad, tmp_path) as engine:
        (found,) = nomad.call("GET", "/nodes")
        await engine.start([FIRST], ONE, epoch=1)
        await ready(engine, FIRST)
        spec = {"DrainSpec": {"Deadline": 60_000_000_000}}
        nomad.call("POST", f"/node/{found['ID']}/drain", spec)
        drained = await until_node(engine, takes=False)
        assert drained.closed and drained.drains and drained.version == "1.6.1"
        assert drained.drain_until_s is not None
        assert 0 < drained.drain_until_s - SystemClock().wall() <= 60

        async def moved() -> bool:
            one = await replica_of(engine, FIRST)
            return one.state is ReplicaState.PENDING and not one.servers

        await auntil(moved)
        await engine.take(drained.name, True, epoch=1)
        await ready(engine, FIRST)


async def test_many_drains_hold_up_no_look_however_slow_nomad_is(nomad: NomadAgent) -> None:
    """Drains of one node, as a list of nodes would tell them, each asked for once."""
    (found,) = nomad.call("GET", "/nodes")
    lasting = sleeping("lasting")
    (task,) = lasting["TaskGroups"][0]["Tasks"]
    task |= {"Config": {"command": "/bin/sh", "args": ["-c", DEAF]}, "KillTimeout": 60 * 10**9}
    nomad.register(lasting)
    nomad.exactly(1, lambda: nomad.running("lasting"))
    asked = {"DrainSpec": {"Deadline": 60_000_000_000}}
    nomad.call("POST", f"/node/{found['ID']}/drain", asked)
    began = [f"2026-11-28T00:00:0{second}Z" for second in range(6)]
    many = [{"ID": found["ID"], "Drain": True, "LastDrain": {"StartedAt": at}} for at in began]
    async with losing_proxy(nomad.port, b"GET /v1/node/") as proxy:
        client = NomadClient(NomadSettings(port=proxy.port))
        async with aclosing(Drains(client)) as drains:
            proxy.late_s = 1.0
            for _ in range(2):
                async with asyncio.timeout(0.9):
                    assert await drains.deadlines(many) == {found["ID"]: None}

            async def told() -> bool:
                async with asyncio.timeout(0.9):
                    return None not in (await drains.deadlines(many)).values()

            await auntil(told, 10.0)
            assert await drains.deadlines(many) == {found["ID"]: pytest.approx(until_s(nomad))}
            assert proxy.passed == len(many), "some were asked for again"
        await client.close()


def until_s(nomad: NomadAgent) -> float:
    """Return when Nomad itself says that the drain of its node ends."""
    (found,) = nomad.call("GET", "/nodes")
    told = deadline_of(nomad.call("GET", f"/node/{found['ID']}"))
    assert told is not None
    return told


async def capacity(engine: NomadEngine) -> Capacity:
    async def told() -> bool:
        return (await node(engine)).capacity is not None

    await auntil(told)
    found = (await node(engine)).capacity
    assert found is not None
    return found


async def test_what_other_jobs_take_is_not_for_replicas(nomad: NomadAgent, tmp_path: Path) -> None:
    async with nomad_engine_on(nomad, tmp_path) as engine:
        whole = await capacity(engine)
        assert whole.memory_mib and whole.cpu_millicores and whole.gpus == 0
        await engine.start([FIRST], ONE, epoch=1)
        await ready(engine, FIRST)
        async with nomad_engine_on(nomad, tmp_path) as another:
            left = await capacity(another)
            assert left.memory_mib == whole.memory_mib - left.unset_memory_mib
        assert await capacity(engine) == whole, "its own replicas are not counted"
