"""A real agent on a node for replicas: its reports, what it fetches, and how it fails to start."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from serai.cache_names import BUNDLES, FAILED_SUFFIX, WISHES, Wish, wish_name, wish_text
from serai.clock import SystemClock
from serai.errors import Refused
from serai.http import problem
from serai.report import MAX_REPORT_BYTES, NodeReport
from serai.report_accept import Last, accept, newest
from serai_scheduler.blobs import FolderBlobs, routes
from tests.cluster.agents import consul
from tests.cluster.serai_agents import Orders, SeraiAgent
from tests.integration.local.test_caches import stored
from tests.support.ports import free_port
from tests.support.wait import auntil

pytestmark = pytest.mark.engines


class Leader:
    """A scheduler that takes reports and gives blobs, from those who have the token."""

    def __init__(self, folder: Path) -> None:
        self.blobs = FolderBlobs(folder / "blobs", SystemClock())
        self._parts = FolderBlobs(folder / "parts", SystemClock())
        self._last: dict[str, Last] = {}
        self.reports: list[NodeReport] = []
        self.url = ""

    async def _take(self, request: web.Request) -> web.Response:
        try:
            report = accept(await request.read(), self._last.get)
        except Refused as error:
            return problem(409, error.code, str(error))
        self._last[report.node] = newest(report)
        self.reports.append(report)
        return web.json_response({"demand_since": 0})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Leader"]:
        @web.middleware
        async def guard(
            request: web.Request,
            handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        ) -> web.StreamResponse:
            if request.headers.get("Authorization") != "Bearer agent-token":
                return problem(401, "unauthorized", "the token is wrong")
            return await handler(request)

        app = web.Application(client_max_size=MAX_REPORT_BYTES, middlewares=[guard])
        app.router.add_post("/v1/reports", self._take)
        app.add_routes(routes(self.blobs, self._parts))
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


async def test_reports_follow_the_leader(tmp_path: Path) -> None:
    with consul(tmp_path / "consul") as there:
        agent = SeraiAgent(tmp_path / "node-1", there.port, roles=["replicas"])
        first, second = Leader(tmp_path / "first"), Leader(tmp_path / "second")
        async with first.serving(), second.serving(), Orders(there.port) as orders:
            await orders.lead(2, first.url)
            try:
                agent.start()
                await auntil(lambda: len(first.reports) >= 2)
                assert {(one.node, one.roles) for one in first.reports} == {
                    ("node-1", ("replicas",))
                }
                assert await asyncio.to_thread(agent.ready)
                await orders.lead(3, second.url)
                await auntil(lambda: len(second.reports) >= 2, 5.0)
                there.kill()
                count = len(second.reports)
                await auntil(lambda: len(second.reports) >= count + 2, 5.0)
                text = await asyncio.to_thread(agent.metrics)
                assert 'serai_agent_reports_ended_total{outcome="sent"}' in text
            finally:
                agent.stop()


async def test_what_a_replica_waits_for_comes_from_the_leader(tmp_path: Path) -> None:
    store, digest = stored({"app.py": b"print(1)"})
    with consul(tmp_path / "consul") as there:
        agent = SeraiAgent(tmp_path / "node-1", there.port, roles=["replicas"])
        async with Leader(tmp_path / "leader").serving() as leader, Orders(there.port) as orders:
            await orders.lead(2, leader.url)
            for name, content in store.contents.items():
                await leader.blobs.put(name, store.get(name), len(content))
            wishes = agent.data / "cache" / WISHES
            try:
                agent.start()
                await auntil(wishes.exists)
                good, bad = (leave(wishes, Wish(bundle=one)) for one in (digest, "0" * 64))
                marker = agent.data / "cache" / BUNDLES / f"{digest}.manifest"
                await auntil(lambda: marker.exists() and not good.exists())
                await auntil(lambda: not bad.exists())
                told = bad.with_name(bad.name + FAILED_SUFFIX).read_text()
                assert "000000000000" in told
            finally:
                agent.stop()


def leave(folder: Path, wish: Wish) -> Path:
    path = folder / wish_name(wish_text(wish))
    path.write_text(wish_text(wish))
    return path


def refused(agent: SeraiAgent) -> tuple[int, str]:
    """Start an agent that cannot; return its status and the last line that it said."""
    ended = subprocess.run(agent.command, capture_output=True, text=True, timeout=30, check=False)
    return ended.returncode, ended.stderr.splitlines()[-1]


async def test_what_keeps_it_from_starting_is_one_line(tmp_path: Path) -> None:
    agent = SeraiAgent(tmp_path / "node-1", free_port())
    try:
        taken = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", agent.gateway)
        status, told = await asyncio.to_thread(refused, agent)
        assert (status, agent.haproxy()) == (2, None)
        assert told.startswith(f"serai-agent: cannot listen on 127.0.0.1:{agent.gateway}: ")
        taken.close()
        await taken.wait_closed()
        agent.start()  # Consul is away, which is no reason not to
        status, told = await asyncio.to_thread(refused, agent)
        assert agent.process is not None
        assert (status, told) == (
            2,
            f"serai-agent: data_dir: another serai-agent (process {agent.process.pid}) "
            f"has {agent.data}",
        )
    finally:
        agent.stop()
    (tmp_path / "node-1" / "token").write_text("two words\n")
    assert (await asyncio.to_thread(refused, agent))[0] == 2
    (tmp_path / "node-1" / "agent.toml").write_text("nodes = 1")
    status, told = await asyncio.to_thread(refused, agent)
    assert status == 2 and "nodes: unknown key; did you mean `node`?" in told
