"""A NomadEngine on a real Nomad and Consul, with a program whose bundle lies in the cache."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.error import HTTPError

import msgspec

from serai.cache_names import BUNDLES, MANIFEST_SUFFIX
from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.registry import ConsulRegistry
from serai.model import digest_of
from serai_scheduler.nomad.client import NomadClient, NomadSettings
from serai_scheduler.nomad.engine import NomadEngine
from serai_scheduler.nomad.settings import JobSettings
from tests.cluster.nomad import CHANGE_LIMIT_S, NomadAgent
from tests.integration.local import world
from tests.support.wait import until

BUNDLE = digest_of(world.PROGRAM.encode())
KILL_LIMIT_S = 2.0

version = partial(world.version, bundle=BUNDLE)
"""Returns a version whose program lies in a bundle, as on a node of a cluster."""


def job_settings(cache: Path, **changes: object) -> JobSettings:
    """Lay the program out as a node's agent does; return settings of jobs that end early.

    The prefix is another one each time, since tests share their Nomad.
    """
    bundle = cache / BUNDLES / BUNDLE
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "server.py").write_text(world.PROGRAM)
    Path(f"{bundle}{MANIFEST_SUFFIX}").write_text("")
    settings = JobSettings(
        prefix=f"t{uuid.uuid4().hex[:8]}",
        cache_dir=str(cache),
        default_memory_mib=64,
        restarts=0,
        leave_s=0.1,
        max_kill_timeout_s=KILL_LIMIT_S,
    )
    return msgspec.structs.replace(settings, **changes)


@asynccontextmanager
async def engine_of(
    agent: NomadAgent,
    settings: JobSettings,
    *,
    port: int = 0,
    leading: Callable[[], bool] = lambda: True,
    changed: Callable[[], None] = lambda: None,
) -> AsyncIterator[NomadEngine]:
    """Run an engine and let go of it; what it started goes on. `port` is that of a proxy."""
    client, clock = NomadClient(NomadSettings(port=port or agent.port)), SystemClock()
    async with ConsulClient(ConsulSettings(port=agent.beside.port)) as consul:
        registry = ConsulRegistry(consul, clock)
        engine = NomadEngine(client, registry, clock, settings, leading, changed)
        running = [asyncio.create_task(registry.run()), asyncio.create_task(engine.run())]
        try:
            yield engine
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await client.close()


@asynccontextmanager
async def nomad_engine_on(
    agent: NomadAgent, folder: Path, **changes: object
) -> AsyncIterator[NomadEngine]:
    """Run an engine with jobs of its own and end them afterwards."""
    settings = job_settings(folder / "cache", **changes)
    try:
        async with engine_of(agent, settings) as engine:
            yield engine
    finally:
        await asyncio.to_thread(end_jobs, agent, settings.prefix)


def end_jobs(agent: NomadAgent, prefix: str) -> None:
    """End all that runs under a prefix and wait for it, by the plainest means."""
    for job in agent.call("GET", f"/jobs?prefix={prefix}-"):
        # An engine's last order may have purged it meanwhile, which is told with status 500.
        with contextlib.suppress(HTTPError):
            agent.call("DELETE", f"/job/{job['ID']}?purge=true")

    def gone() -> bool:
        mine = [a for a in agent.call("GET", "/allocations") if a["JobID"].startswith(f"{prefix}-")]
        left = agent.call("GET", f"/jobs?prefix={prefix}-")
        ended = all(one["ClientStatus"] in ("complete", "failed", "lost") for one in mine)
        return ended and not left

    until(gone, CHANGE_LIMIT_S, f"something of {prefix} goes on")
