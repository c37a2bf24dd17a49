"""A task of the real Nomad waits, and the real agent of its node brings what it waits for."""

import asyncio
from pathlib import Path

import pytest

from serai.cache_names import BUNDLES, MANIFEST_SUFFIX, Wish, wish_text
from serai_scheduler.nomad.places import Places
from serai_scheduler.nomad.programs import waiting
from serai_scheduler.nomad.settings import JobSettings
from tests.cluster.nomad import NomadAgent, nomad
from tests.cluster.serai_agents import Orders, SeraiAgent
from tests.integration.local.test_caches import stored
from tests.integration.program.test_node import Leader
from tests.support.wait import auntil

pytestmark = pytest.mark.engines


def run(there: NomadAgent, name: str, digest: str, cache: Path) -> None:
    """Run a task as `prepare` of a replica is, on its own."""
    marker = cache / BUNDLES / f"{digest}{MANIFEST_SUFFIX}"
    places = Places("", "", (str(marker),), wish_text(Wish(bundle=digest)))
    task = {
        "Name": "prepare",
        **waiting(places, JobSettings(cache_dir=str(cache))),
        "Resources": {"CPU": 10, "MemoryMB": 32},
        "RestartPolicy": {"Attempts": 0, "Mode": "fail"},
    }
    group = {"Name": "one", "Count": 1, "Tasks": [task], "ReschedulePolicy": {"Attempts": 0}}
    there.register(
        {"ID": name, "Name": name, "Type": "batch", "Datacenters": ["*"], "TaskGroups": [group]}
    )


async def ended(there: NomadAgent, name: str) -> dict[str, str]:
    """Return how a task ended, and what it said."""

    def found() -> dict[str, str] | None:
        for one in there.allocations(name):
            if one["ClientStatus"] in ("complete", "failed"):
                return {"status": one["ClientStatus"], "said": there.said(one["ID"], "prepare")}
        return None

    await auntil(lambda: asyncio.to_thread(found), 30.0)
    return await asyncio.to_thread(found) or {}


async def test_a_task_gets_its_bundle_or_the_reason_why_not(tmp_path: Path) -> None:
    store, digest = stored({"app.py": b"print(1)"})
    with nomad(tmp_path / "nomad") as there:
        agent = SeraiAgent(tmp_path / "node-1", there.beside.port, roles=["replicas"])
        cache = agent.data / "cache"
        async with (
            Leader(tmp_path / "leader").serving() as leader,
            Orders(there.beside.port) as orders,
        ):
            await orders.lead(2, leader.url)
            for name, content in store.contents.items():
                await leader.blobs.put(name, store.get(name), len(content))
            try:
                await asyncio.to_thread(agent.start)
                await asyncio.to_thread(run, there, "good", digest, cache)
                await asyncio.to_thread(run, there, "bad", "0" * 64, cache)
                assert (await ended(there, "good"))["status"] == "complete"
                assert (cache / BUNDLES / digest / "app.py").read_bytes() == b"print(1)"
                bad = await ended(there, "bad")
                assert bad["status"] == "failed"
                assert "0" * 12 in bad["said"].splitlines()[-1]
            finally:
                agent.stop()
                for name in ("good", "bad"):
                    await asyncio.to_thread(there.purge, name)
