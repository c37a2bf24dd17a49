"""The real reconciler on a real Nomad: what users order comes about, and what breaks is repaired.

The store is in memory; the gateway is one that carries out every route at once.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from serai.clock import SystemClock
from serai.memory import MemoryStore
from serai.model import TERMINAL, Replica, ReplicaState
from serai.operator import DeployItem, DeployRequest
from serai.report import GatewayReading
from serai.routes import ROUTES, Route
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec, Pod, Readiness
from serai.units import Duration
from serai.wire import decode
from serai_scheduler.deploy import Surroundings, accept
from serai_scheduler.nomad.engine import NomadEngine
from serai_scheduler.orders import Orders
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.record import ApiRecord
from serai_scheduler.state import State
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import TrafficBook
from tests.cluster.nomad import NomadAgent, nomad
from tests.support.nomad_engine import BUNDLE, end_jobs, engine_of, job_settings
from tests.support.wait import auntil

pytestmark = pytest.mark.engines

TICK_S = 1.0
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadAgent]:
    with nomad(tmp_path_factory.mktemp("nomad")) as made:
        yield made


class World:
    """A scheduler of one epoch, without a lease."""

    def __init__(self, agent: NomadAgent, store: MemoryStore, epoch: int, prefix: str) -> None:
        self.agent = agent
        self._prefix = prefix
        self.clock = SystemClock()
        self.store = store
        self.state = State(store)
        self.epoch = epoch
        self.traffic = TrafficBook()
        self.reconciler: Reconciler | None = None

    def moved(self) -> None:
        if self.reconciler is not None:
            self.reconciler.kick()

    def begin(self, engine: NomadEngine) -> None:
        self.engine = engine
        clock = TermClock(self.clock)
        self.reconciler = Reconciler(clock, self.state, engine, self.traffic, self.epoch)
        self.orders = Orders(clock, self.state, self.moved, self.epoch)

    async def run(self) -> None:
        assert self.reconciler is not None
        while True:
            await self._carry_out_routes()
            await self.reconciler.tick()
            await self.reconciler.pause(TICK_S)

    async def _carry_out_routes(self) -> None:
        routes = [decode(e.value, Route) for e in (await self.store.scan(ROUTES)).entries]
        revisions = {route.api: route.revision for route in routes}
        reading = GatewayReading(
            run="run", ready=True, read_at_s=self.clock.now(), revisions=revisions
        )
        self.traffic.add("node", reading, self.clock.now())

    async def deploy(self, **env: str) -> str:
        """Deploy the program; return its version."""
        spec = ApiSpec(
            name="echo",
            endpoint="/echo",
            pod=Pod(command=(sys.executable, "server.py")),
            autoscaling=Autoscaling(min_replicas=0, max_replicas=5),
            readiness=Readiness(period=Duration(1), failures=3),
            env=env,
        )
        wanted = DeployRequest(apis=(DeployItem(spec=spec, bundle=BUNDLE),))
        around = Surroundings(self.clock.wall(), "", "3.11")
        (accepted,) = await self.orders.deploy(wanted, around, accept)
        return accepted.plan.version

    async def record(self) -> ApiRecord:
        return (await self.state.read())["echo"].record

    async def ready(self, version: str, *numbers: int) -> list[Replica]:
        """Return the replicas once those of this version with these numbers are all that live."""
        wanted = sorted(f"echo.{version}.{number}" for number in numbers)

        async def there() -> bool:
            living = [r for r in await self.engine.observe() if r.state not in TERMINAL]
            return sorted(r.id for r in living) == wanted and all(
                r.state is ReplicaState.READY for r in living
            )

        await auntil(there, LIMIT_S, f"never just {wanted}")
        return [r for r in await self.engine.observe() if r.id in wanted]

    def allocations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.agent.call("GET", "/allocations")
        return [one for one in found if one["JobID"].startswith(self._prefix)]

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.agent.call("GET", f"/jobs?prefix={self._prefix}")
        return found


@asynccontextmanager
async def world(
    agent: NomadAgent, folder: Path, store: MemoryStore | None = None, epoch: int = 0, **more: Any
) -> AsyncIterator[World]:
    settings = more.get("settings") or job_settings(folder / "cache")
    one = World(agent, store or MemoryStore(), epoch, settings.prefix)
    try:
        async with engine_of(agent, settings, changed=one.moved) as engine:
            one.begin(engine)
            running = asyncio.create_task(one.run())
            try:
                yield one
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
    finally:
        if "settings" not in more:
            await asyncio.to_thread(end_jobs, agent, settings.prefix)


async def test_deploy_scale_update_and_delete(agent: NomadAgent, tmp_path: Path) -> None:
    async with world(agent, tmp_path) as one:
        first = await one.deploy()
        await one.orders.scale("echo", 1)
        (before,) = await one.ready(first, 1)
        await one.orders.scale("echo", 3)
        three = await one.ready(first, 1, 2, 3)
        assert before in three
        await one.orders.scale("echo", 1)
        await auntil(lambda: living(one, 1), LIMIT_S)
        (left,) = [r for r in await one.engine.observe() if r.state not in TERMINAL]
        assert left in three
        second = await one.deploy(NEXT="yes")
        assert second != first
        await one.ready(second, 1)
        record = await one.record()
        assert record.stable == second and record.candidate is None
        await one.orders.delete("echo")
        await auntil(lambda: gone(one), LIMIT_S)
        await auntil(lambda: not one.jobs())
        await auntil(lambda: nothing_seen(one))
        # Four replicas in all were asked for; Nomad has made no more.
        assert len(one.allocations()) == 4


async def nothing_seen(one: World) -> bool:
    return not await one.engine.observe()


async def living(one: World, count: int) -> bool:
    found = [r for r in await one.engine.observe() if r.state not in TERMINAL]
    return len(found) == count


async def gone(one: World) -> bool:
    return "echo" not in await one.state.read()


async def test_what_an_operator_ends_by_hand_is_repaired(agent: NomadAgent, tmp_path: Path) -> None:
    async with world(agent, tmp_path) as one:
        version = await one.deploy()
        await one.orders.scale("echo", 2)
        await one.ready(version, 1, 2)
        (job,) = {a["JobID"] for a in one.allocations() if a["DesiredStatus"] == "run"}
        assert (await asyncio.to_thread(agent.nomad_job, "stop", "-detach", job)).returncode == 0
        await one.ready(version, 3, 4)
        ran = await asyncio.to_thread(agent.nomad_job, "stop", "-purge", "-detach", job)
        assert ran.returncode == 0
        await auntil(lambda: other_job(one), LIMIT_S)
        await auntil(lambda: all_ready(one, 2), LIMIT_S)
        # A replica that fails for good is replaced by one of the next number.
        stop = {"Task": "replica", "Signal": "SIGKILL"}
        victim = next(a for a in one.allocations() if a["ClientStatus"] == "running")
        agent.call("POST", f"/client/allocation/{victim['ID']}/signal", stop)
        await auntil(lambda: replaced(one, victim), LIMIT_S)
        await auntil(lambda: all_ready(one, 2), LIMIT_S)


async def other_job(one: World) -> bool:
    """Say whether replicas run in a job that was made anew."""
    return len([a for a in one.allocations() if a["DesiredStatus"] == "run"]) == 2


async def replaced(one: World, victim: dict[str, Any]) -> bool:
    failed = [a for a in one.allocations() if a["ID"] == victim["ID"]]
    return failed[0]["ClientStatus"] == "failed" and await living(one, 2)


async def all_ready(one: World, count: int) -> bool:
    found = [r for r in await one.engine.observe() if r.state not in TERMINAL]
    return [r.state for r in found] == [ReplicaState.READY] * count


async def test_the_next_leader_takes_over_what_runs(agent: NomadAgent, tmp_path: Path) -> None:
    settings, store = job_settings(tmp_path / "cache"), MemoryStore()
    async with world(agent, tmp_path, store, settings=settings) as old:
        version = await old.deploy()
        await old.orders.scale("echo", 2)
        before = await old.ready(version, 1, 2)
    epoch = await store.raise_epoch()
    async with world(agent, tmp_path, store, epoch, settings=settings) as new:
        after = await new.ready(version, 1, 2)
        places = {(r.id, r.servers, r.created_at_s) for r in before}
        assert {(r.id, r.servers, r.created_at_s) for r in after} == places
        await new.orders.delete("echo")
        await auntil(lambda: gone(new), LIMIT_S)
    await asyncio.to_thread(end_jobs, agent, settings.prefix)
