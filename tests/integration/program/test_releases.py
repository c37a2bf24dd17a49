"""Versions of several releases of Serai on one node: each starts with the runtime it was made with.

The real Nomad runs them, and the real agent brings their parts.
"""

import asyncio
from pathlib import Path

import msgspec
import pytest

from serai.clock import SystemClock
from serai.model import Version
from serai.runtime_code import runtime_digest, runtime_requirements
from serai.spec.types import Compute, Predictor
from serai.units import Cpu, Size
from serai_cli.embedded.node import platform_name
from serai_cli.project.lock import LockRequest, resolve
from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.settings import JobSettings
from tests.cluster.nomad import NomadAgent, nomad
from tests.cluster.serai_agents import Orders, SeraiAgent
from tests.cluster.serai_cluster import PLATFORM
from tests.integration.local.test_caches import PYTHON
from tests.integration.program.test_node import Leader
from tests.support.contents import Contents, runtime_of_another_release
from tests.support.serai import call
from tests.support.wait import until
from tests.unit.nomad import values

pytestmark = pytest.mark.engines
START_LIMIT_S = 90.0
CODE = """
import serai_runtime

class Predictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        return {"release": getattr(serai_runtime, "RELEASE", "installed")}
"""


async def parts(folder: Path) -> tuple[Contents, dict[str, str]]:
    """Return contents with a bundle and a lock, and what a version says of them."""
    request = LockRequest(None, runtime_requirements(), PYTHON, platform_name())
    lock = await resolve(request, folder, SystemClock().wall())
    contents = Contents()
    bundle = contents.add_bundle({"predictor.py": CODE})
    return contents, {"bundle": bundle, "lock": contents.add(lock.text.encode()), "python": PYTHON}


def version(api: str, runtime: str, made_from: dict[str, str]) -> Version:
    content = msgspec.structs.replace(
        values.predictor().content,
        predictor=Predictor(path="predictor.py"),
        compute=Compute(cpu=Cpu(200), mem=Size(2**27)),
        env={},
        runtime=runtime,
        **made_from,
    )
    return values.version(content, api=api)


def release_of(there: NomadAgent, api: str) -> str:
    """Return which runtime a replica of the API has, once it is ready."""
    until(lambda: there.passing(api), START_LIMIT_S, f"{api} is never ready")
    url = f"http://127.0.0.1:{there.passing(api)[0]['Port']}/"
    answer = call(url, b"{}", {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    return str(answer.json()["release"])


def why_not(there: NomadAgent, job: str) -> str:
    """Return what a replica that cannot start says of it."""

    def failed() -> list[str]:
        found = there.allocations(job)
        return [one["ID"] for one in found if one["ClientStatus"] == "failed"]

    until(failed, START_LIMIT_S, f"{job} does not fail")
    return there.said(failed()[0], "prepare")


async def test_a_version_starts_with_the_runtime_of_its_release(tmp_path: Path) -> None:
    contents, made_from = await parts(tmp_path / "locks")
    runtimes = {
        "own": runtime_digest(),
        "other": contents.add(runtime_of_another_release()),
        "lost": "e" * 64,
    }
    with nomad(tmp_path / "nomad") as there:
        agent = SeraiAgent(tmp_path / "node-1", there.beside.port, roles=["replicas"])
        cache = str(agent.data / "cache")
        settings = JobSettings(cache_dir=cache, platform=PLATFORM, leave_s=0.1, restarts=0)
        versions = [version(api, runtime, made_from) for api, runtime in runtimes.items()]
        jobs = {one.api: job_of(one, (1,), settings) for one in versions}
        async with (
            Leader(tmp_path / "leader").serving() as leader,
            Orders(there.beside.port) as orders,
        ):
            await orders.lead(2, leader.url)
            await contents.put_into(leader.blobs)
            try:
                await asyncio.to_thread(agent.start)
                for job in jobs.values():
                    await asyncio.to_thread(there.register, job)
                assert await asyncio.to_thread(release_of, there, "own") == "installed"
                assert await asyncio.to_thread(release_of, there, "other") == "another"
                told = await asyncio.to_thread(why_not, there, jobs["lost"]["ID"])
                assert "whose runtime eeeeeeeeeeee neither this node nor the scheduler has" in told
            finally:
                agent.stop()
                for job in jobs.values():
                    await asyncio.to_thread(there.purge, job["ID"])
