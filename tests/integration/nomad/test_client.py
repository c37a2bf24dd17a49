"""Calls to a real Nomad: what they give, and what each of its refusals becomes."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serai.errors import Refused, Unavailable
from serai_scheduler.nomad.client import Listed, NomadClient, NomadSettings
from tests.cluster.nomad import NomadAgent, nomad

pytestmark = pytest.mark.engines


def sleeping(job: str, count: int = 1) -> dict[str, Any]:
    task = {
        "Name": "sleep",
        "Driver": "raw_exec",
        "Config": {"command": "/bin/sleep", "args": ["1000"]},
        "Resources": {"CPU": 50, "MemoryMB": 10},
    }
    group = {"Name": "group", "Count": count, "Tasks": [task]}
    return {
        "ID": job,
        "Name": job,
        "Type": "service",
        "Datacenters": ["dc1"],
        "Update": {"MaxParallel": 0},
        "TaskGroups": [group],
    }


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with nomad(tmp_path_factory.mktemp("nomad")) as made:
        yield made


@pytest.fixture
async def client(agent: NomadAgent) -> AsyncIterator[NomadClient]:
    made = NomadClient(NomadSettings(port=agent.port))
    yield made
    await made.close()


@pytest.fixture
async def job(agent: NomadAgent) -> AsyncIterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    if agent.allocations(name):
        await asyncio.to_thread(agent.purge, name)


async def running(client: NomadClient, job: str, count: int) -> Listed:
    """Return the allocations once so many run, by waiting in Nomad itself."""
    found = await client.allocations(job)
    async with asyncio.timeout(30):
        while [one["ClientStatus"] for one in found.items].count("running") != count:
            found = await client.allocations(job, found.index, 10.0)
    return found


async def test_a_count_changes_only_from_what_was_read(client: NomadClient, job: str) -> None:
    first = await client.register(sleeping(job), 0)
    before = await running(client, job, 1)
    second = await client.register(sleeping(job, 2), first)
    assert second > first
    for index in (0, first):
        with pytest.raises(Refused) as caught:
            await client.register(sleeping(job, 5), index)
        assert caught.value.code == "conflict"
    after = await running(client, job, 2)
    assert {one["ID"] for one in before.items} < {one["ID"] for one in after.items}
    found = await client.job(job)
    assert found is not None and found["TaskGroups"][0]["Count"] == 2
    assert found["JobModifyIndex"] == second


async def test_lists_hold_what_begins_so_and_nothing_else(client: NomadClient, job: str) -> None:
    await client.register(sleeping(job), 0)
    assert [one["ID"] for one in (await client.jobs(job)).items] == [job]
    assert (await client.jobs(f"{job}-other")).items == ()
    assert (await client.allocations("another")).items == ()
    assert len((await client.nodes()).items) == 1
    assert len((await client.evaluations(job)).items) >= 1
    assert (await client.evaluations("another")).items == ()


async def test_a_wait_without_a_change_ends_in_time(client: NomadClient) -> None:
    jobs = await client.jobs("another")
    async with asyncio.timeout(5):
        assert (await client.jobs("another", jobs.index, 0.2)).items == ()


async def test_a_short_call_does_not_stand_behind_those_that_wait(client: NomadClient) -> None:
    index = (await client.jobs("another")).index
    waits = [asyncio.create_task(client.jobs("another", index, 5)) for _ in range(30)]
    async with asyncio.timeout(2):
        assert await client.job("another") is None
    for wait in waits:
        wait.cancel()
    async with asyncio.timeout(2):
        assert await client.job("another") is None


async def test_what_is_gone_can_be_stopped_again(client: NomadClient, job: str) -> None:
    await client.register(sleeping(job), 0)
    for _ in range(2):
        await client.stop(job, purge=True)
        assert await client.job(job) is None


async def test_a_job_that_is_not_valid_is_refused_with_its_reason(client: NomadClient) -> None:
    with pytest.raises(Refused, match="Missing job task groups") as caught:
        await client.register({"ID": "bare", "Name": "bare", "Datacenters": ["dc1"]}, 0)
    assert caught.value.code == "nomad_refused"


async def test_a_nomad_that_is_away_or_stands_still_is_unavailable(tmp_path: Path) -> None:
    with nomad(tmp_path) as agent:
        client = NomadClient(NomadSettings(port=agent.port))
        index = await client.register(sleeping("stays"), 0)
        waiting = asyncio.create_task(client.jobs("stays", (await client.jobs("stays")).index, 60))
        await asyncio.to_thread(agent.kill)
        with pytest.raises(Unavailable, match=str(agent.port)):
            await waiting
        with pytest.raises(Unavailable, match="refused"):
            await client.register(sleeping("stays", 2), index)
        await asyncio.to_thread(agent.start)
        found = await client.job("stays")
        assert found is not None and found["JobModifyIndex"] == index
        await client.close()
