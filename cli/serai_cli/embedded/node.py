"""The one process of a one-machine Serai: scheduler, agent and engine on their in-process ports."""

import asyncio
import contextlib
import logging
import os
import platform
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path

import psutil
from aiohttp import web

from serai import wire
from serai.clock import Clock, SystemClock
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.memory import MemoryRegistry
from serai.model import Replica, ReplicaState
from serai.report import REPORT_VERSION, GatewayReading, Gpus, NodeReport
from serai.routes import Route
from serai_agent.cache.node import NodeCache
from serai_agent.cache.runtime import runtime_digest, runtime_requirements
from serai_agent.edge.gateway import HaproxyGateway
from serai_agent.local.engine import LocalEngine
from serai_cli.embedded.folder import DataFolder, Endpoint
from serai_cli.embedded.limits import not_on_one_machine
from serai_scheduler.api.app import make_app
from serai_scheduler.blobs.storage import FolderBlobs
from serai_scheduler.record import ROUTES
from serai_scheduler.service import Cluster, Scheduler
from serai_scheduler.store.sqlite import SqliteStore

log = logging.getLogger(__name__)

APPLY_PERIOD_S = 1.0
REPORT_PERIOD_S = 1.0
COLLECT_PERIOD_S = 600.0
DRAIN_LIMIT_S = 600.0
ADOPT_LIMIT_S = 3.0


@dataclass(frozen=True)
class Ports:
    """What `serai up` listens on."""

    host: str
    gateway: int
    control: int


def _url(host: str, port: int) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "*") else host
    return f"http://{shown}:{port}"


class Node:
    """Everything wired together; `serve` runs it."""

    def __init__(self, folder: DataFolder, ports: Ports, clock: Clock) -> None:
        root = folder.path
        self.folder, self.ports, self.clock = folder, ports, clock
        self.name = socket.gethostname()
        self.registry = MemoryRegistry()
        self.store = SqliteStore(root / "store.db")
        self.blobs = FolderBlobs(root / "blobs", clock)
        self.parts = FolderBlobs(root / "parts", clock)
        self.cache = NodeCache(clock, root / "cache", self.blobs)
        self.changed = asyncio.Event()
        self.engine = LocalEngine(
            clock,
            self.name,
            root / "engine",
            self.cache,
            changed=self._engine_changed,
        )
        self.gateway = HaproxyGateway(
            root / "gateway", ports.host, ports.gateway, clock, run=f"{os.getpid()}-{clock.wall()}"
        )
        self.scheduler: Scheduler | None = None
        self._sequence = 0
        self._started_at_s = clock.wall()

    def _engine_changed(self) -> None:
        self.changed.set()
        if self.scheduler is not None:
            self.scheduler.reconciler.kick()

    def make_scheduler(self, epoch: int) -> Scheduler:
        """Make the scheduler over this node's ports."""
        self.scheduler = Scheduler(
            clock=self.clock,
            store=self.store,
            engine=self.engine,
            blobs=self.blobs,
            cluster=Cluster(
                serai_version=installed_version("serai"),
                gateway_url=_url(self.ports.host, self.ports.gateway),
                python=f"{sys.version_info.major}.{sys.version_info.minor}",
                platform=_platform(),
                runtime_digest=runtime_digest(),
                runtime_requirements=runtime_requirements(),
            ),
            epoch=epoch,
            check_specs=not_on_one_machine,
        )
        return self.scheduler

    # Loops ---------------------------------------------------------------------------------------

    async def publish_forever(self) -> None:
        """Tell the registry which servers are ready, as soon as the engine knows."""
        await self._wait_for_adopted()
        while True:
            self.changed.clear()
            replicas = await self.engine.observe()
            self.registry.publish([server for r in replicas for server in r.servers])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(APPLY_PERIOD_S):
                    await self.changed.wait()

    async def _wait_for_adopted(self) -> None:
        """Give replicas that were adopted the time to answer their first probe."""

        def unprobed(replica: Replica) -> bool:
            return replica.alive and replica.state is ReplicaState.PENDING

        began_s = self.clock.now()
        while any(unprobed(r) for r in await self.engine.observe()):
            if self.clock.now() - began_s > ADOPT_LIMIT_S:
                return
            await self.clock.sleep(0.05)

    async def steer_forever(self) -> None:
        """Carry out routes and registry in HAProxy: at every change, and once a second anyway."""
        routes = await self.store.scan(ROUTES)
        listing = await self.registry.watch(0, ADOPT_LIMIT_S)
        while True:
            with _said("gateway not steered"):
                wanted = [wire.decode(entry.value, Route) for entry in routes.entries]
                await self.gateway.apply(wanted, listing.servers)
            async with asyncio.TaskGroup() as group:
                first = asyncio.Event()
                of_routes = group.create_task(
                    _then(self.store.watch(ROUTES, routes.revision, APPLY_PERIOD_S), first)
                )
                of_servers = group.create_task(
                    _then(self.registry.watch(listing.revision, APPLY_PERIOD_S), first)
                )
                await first.wait()
                for task in (of_routes, of_servers):
                    if not task.done():
                        task.cancel()
            routes = await self.store.scan(ROUTES)
            listing = await self.registry.watch(0, 0.001)

    async def report_forever(self) -> None:
        """Tell the scheduler once a second how this node is."""
        assert self.scheduler is not None
        while True:
            with _said("report not taken"):
                self.scheduler.take_report(await self._report())
            await self.clock.sleep(REPORT_PERIOD_S)

    async def _report(self) -> NodeReport:
        self._sequence += 1
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self.folder.path))
        reading: GatewayReading | None = None
        with _said("gateway not read"):
            reading = await self.gateway.read()
        return NodeReport(
            report_version=REPORT_VERSION,
            node=self.name,
            sequence=self._sequence,
            started_at_s=self._started_at_s,
            sent_at_s=self.clock.wall(),
            serai_version=installed_version("serai"),
            roles=("replicas", "gateway"),
            cpu_count=os.cpu_count() or 1,
            cpu_percent=psutil.cpu_percent(None),
            load=os.getloadavg(),
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            disk_total_bytes=disk.total,
            disk_free_bytes=disk.free,
            gpus=Gpus(problem="not asked"),
            replicas=self.engine.usage(),
            gateway=reading,
        )


@contextlib.contextmanager
def _said(message: str):  # type: ignore[no-untyped-def]
    try:
        yield
    except (Unavailable, Refused) as error:
        log.warning(message, extra={"why": str(error)})


async def _then(waiting: Awaitable[object], event: asyncio.Event) -> None:
    await waiting
    event.set()


def _platform() -> str:
    """Return this machine as uv names platforms for resolving."""
    machine = platform.machine()
    if sys.platform == "darwin":
        return "aarch64-apple-darwin" if machine == "arm64" else "x86_64-apple-darwin"
    _, glibc = platform.libc_ver()
    minor = glibc.partition(".")[2] or "17"
    return f"{machine}-manylinux_2_{minor}"


async def serve(folder: DataFolder, ports: Ports) -> int:
    """Run a node until a signal ends it; return the exit status."""
    clock = SystemClock()
    node = Node(folder, ports, clock)
    stopping = asyncio.Event()
    _on_signals(stopping)
    await node.store.open()
    try:
        await node.engine.open()
        await node.gateway.start()
        try:
            return await _serve(node, stopping)
        finally:
            folder.withdraw()
            node.gateway.detach()
    finally:
        await node.store.close()


async def _serve(node: Node, stopping: asyncio.Event) -> int:
    scheduler = node.make_scheduler(await node.store.raise_epoch())
    hosts = frozenset({"127.0.0.1", "localhost", "::1", node.ports.host, node.name})
    app = make_app(scheduler, node.parts, node.folder.token(), hosts)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, node.ports.host, node.ports.control).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(
            f"cannot listen on {node.ports.host}:{node.ports.control}: {error.strerror}; "
            "choose another --control-port"
        ) from error
    control_url = _url(node.ports.host, node.ports.control)
    node.folder.announce(Endpoint(control_url, scheduler.cluster.gateway_url, os.getpid()))
    print(f"Serai serves at {scheduler.cluster.gateway_url}, control at {control_url}", flush=True)
    loops = [
        node.publish_forever,
        node.steer_forever,
        node.report_forever,
        scheduler.reconcile_forever,
        lambda: scheduler.collect_forever(COLLECT_PERIOD_S),
    ]
    tasks = [asyncio.create_task(_restarted(loop, node.clock)) for loop in loops]
    running = asyncio.create_task(_restarted(node.engine.run, node.clock))
    await stopping.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await runner.cleanup()
    print("draining: requests in flight finish (Ctrl-C again to exit at once)", flush=True)
    await node.gateway.stop(DRAIN_LIMIT_S)
    await node.engine.shutdown(keep=False)
    running.cancel()
    return 0


async def _restarted(loop: Callable[[], Awaitable[None]], clock: Clock) -> None:
    while True:
        try:
            await loop()
        except Exception:  # supervisor of long-lived loops
            log.exception("loop failed")
            await clock.sleep(1.0)


def _on_signals(stopping: asyncio.Event) -> None:
    def asked() -> None:
        if stopping.is_set():
            os._exit(130)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked)


async def end_leftovers(folder: DataFolder) -> int:
    """End the HAProxy and the replicas that a crash left behind; return how many."""
    folder.hold()
    clock = SystemClock()
    node = Node(folder, Ports("127.0.0.1", 0, 0), clock)
    await node.engine.open()
    alive = [r for r in await node.engine.observe() if r.alive]
    running = asyncio.create_task(node.engine.run())
    await node.gateway.stop(10.0)
    await node.engine.shutdown(keep=False)
    running.cancel()
    return len(alive)


__all__ = ["Node", "Path", "Ports", "SeraiError", "end_leftovers", "serve"]
