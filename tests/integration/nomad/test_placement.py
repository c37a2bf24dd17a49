"""What a real Nomad says of a replica that it cannot place, in our words."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from serai_scheduler.nomad.client import NomadClient, NomadSettings
from serai_scheduler.nomad.placement import NotPlaced, why_not_placed
from serai_scheduler.nomad.rooms import ask_of, rooms_of
from tests.cluster.nomad import nomad
from tests.integration.nomad.test_client import sleeping
from tests.support.wait import auntil

pytestmark = pytest.mark.engines


def asking(job: str, driver: str = "raw_exec", **resources: int) -> dict[str, Any]:
    made = sleeping(job)
    task = made["TaskGroups"][0]["Tasks"][0]
    task["Driver"] = driver
    task["Resources"] |= resources
    return made


async def failed(client: NomadClient, job: str) -> Mapping[str, Any]:
    """Return Nomad's account of the placement that failed."""
    found: list[Mapping[str, Any]] = []

    async def told() -> bool:
        for one in (await client.evaluations(job)).items:
            if one.get("FailedTGAllocs"):
                found.append(one["FailedTGAllocs"]["group"])
        return bool(found)

    await auntil(told, 20.0, f"nothing was said of {job}")
    return found[0]


async def explained(client: NomadClient, job: dict[str, Any]) -> NotPlaced:
    await client.register(job, 0)
    metric = await failed(client, job["ID"])
    nodes = (await client.nodes()).items
    rooms = rooms_of(nodes, (await client.allocations("")).items)
    return why_not_placed(ask_of(job["TaskGroups"][0]), rooms, metric, mhz_per_core=1000)


async def test_full_too_large_and_without_driver_are_told_apart(tmp_path: Path) -> None:
    with nomad(tmp_path) as agent:
        client = NomadClient(NomadSettings(port=agent.port))
        await client.register(asking("fills", CPU=7000), 0)
        await asyncio.to_thread(agent.exactly, 1, lambda: agent.running("fills"))
        full = await explained(client, asking("waits", CPU=2000))
        assert full.may_clear
        assert full.reason.startswith("waits for room: asks for 2.0 cores and 10Mi; free: ")
        assert " 1.0 cores and " in full.reason
        large = await explained(client, asking("large", CPU=9000))
        assert not large.may_clear and "more than any node has in all" in large.reason
        other = await explained(client, asking("other", driver="podman"))
        assert not other.may_clear and "1 node without a driver" in other.reason
        (node,) = rooms_of((await client.nodes()).items, ())
        assert node.disk_mib and node.drivers and "raw_exec" in node.drivers
        wide = asking("wide")
        wide["TaskGroups"][0]["EphemeralDisk"] = {"SizeMB": node.disk_mib + 1}
        told = await explained(client, wide)
        assert not told.may_clear and told.reason.startswith("asks for 0.1 cores, 10Mi and ")
        assert " of disk, more than any node has in all (the largest, " in told.reason
        for job in ("fills", "waits", "large", "other", "wide"):
            await client.stop(job, purge=True)
        await client.close()
