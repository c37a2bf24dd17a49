"""The agent's loops on one machine: publish what is ready, steer HAProxy, report."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from serai import wire
from serai.clock import Clock
from serai.errors import Refused, Unavailable
from serai.model import Replica, ReplicaState
from serai.registry import Listing
from serai.report import NodeReport, ReplicaUsage
from serai.routes import Route
from serai.store import Snapshot
from serai_agent.report.beat import Identity
from serai_agent.report.gauges import ReportGauges
from serai_agent.report.gpu import GpuProbe
from serai_agent.report.node import NodeReader
from serai_agent.report.sender import ReportLoop, Sources
from serai_cli.embedded.node import Node
from serai_scheduler.record import ROUTES
from serai_scheduler.service import Scheduler

log = logging.getLogger(__name__)

REPAIR_PERIOD_S = 1.0
"""How often HAProxy is compared with what is wanted although nothing changed."""
ADOPT_LIMIT_S = 3.0
POLL_S = 0.05

OnLate = Callable[[float, int], None]
"""Hears how late a turn began, and how many were skipped before it."""


class Rhythm:
    """Tells how late a loop is that waits for changes, and for no longer than the repair period."""

    def __init__(self, clock: Clock, on_late: OnLate) -> None:
        self._clock = clock
        self._on_late = on_late
        self._due_s: float | None = None

    def begins(self) -> None:
        """Note that the loop begins another turn."""
        now_s = self._clock.now()
        if self._due_s is not None:
            self._on_late(max(0.0, now_s - self._due_s), 0)

    def waits(self) -> None:
        """Note that it waits from here on."""
        self._due_s = self._clock.now() + REPAIR_PERIOD_S


async def publish_forever(node: Node, on_late: OnLate) -> None:
    """Tell the registry which servers are ready, as soon as the engine knows."""
    await _wait_for_adopted(node)
    rhythm = Rhythm(node.clock, on_late)
    while True:
        rhythm.begins()
        node.engine_changed.clear()
        replicas = await node.engine.observe()
        node.registry.publish([server for replica in replicas for server in replica.servers])
        rhythm.waits()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPAIR_PERIOD_S):
                await node.engine_changed.wait()


async def _wait_for_adopted(node: Node) -> None:
    """Give replicas that were adopted the time to answer their first probe."""

    def unprobed(replica: Replica) -> bool:
        return replica.alive and replica.state in (ReplicaState.PENDING, ReplicaState.STARTING)

    began_s = node.clock.now()
    while any(unprobed(replica) for replica in await node.engine.observe()):
        if node.clock.now() - began_s > ADOPT_LIMIT_S:
            return
        await node.clock.sleep(POLL_S)


async def steer_forever(node: Node, on_late: OnLate) -> None:
    """Carry out routes and registry in HAProxy: at every change, and once a second anyway."""
    routes = await node.store.scan(ROUTES)
    listing = await node.registry.watch(0, ADOPT_LIMIT_S)
    rhythm = Rhythm(node.clock, on_late)
    while True:
        rhythm.begins()
        wanted = [wire.decode(entry.value, Route) for entry in routes.entries]
        try:
            await node.gateway.apply(wanted, listing.servers)
        except (Unavailable, Refused) as error:
            log.warning("gateway not steered", extra={"why": str(error)})
            await node.clock.sleep(REPAIR_PERIOD_S)
        rhythm.waits()
        await _change(node, routes, listing)
        routes = await node.store.scan(ROUTES)
        listing = await node.registry.watch(-1, 0)


async def _change(node: Node, routes: Snapshot, listing: Listing) -> None:
    """Return once a route or a server changed, or after the repair period."""
    waiting: list[Awaitable[object]] = [
        node.store.watch(ROUTES, routes.revision, REPAIR_PERIOD_S),
        node.registry.watch(listing.revision, REPAIR_PERIOD_S),
    ]
    tasks = [asyncio.ensure_future(one) for one in waiting]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class SchedulerSink:
    """Hands reports to the scheduler in the same process, in the form that they travel in."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def send(self, report: NodeReport) -> None:
        try:
            self._scheduler.take_report(wire.encode(report))
        except Refused as refused:
            log.warning("report refused", extra={"why": str(refused)})


def reporting(node: Node, scheduler: Scheduler, probe: GpuProbe) -> ReportLoop:
    """Return what makes this machine's reports and hands them over."""

    async def usage() -> tuple[ReplicaUsage, ...]:
        return node.engine.usage()

    return ReportLoop(
        Identity(
            node=node.name,
            started_at_s=node.clock.wall(),
            serai_version=node.version,
            roles=("replicas", "gateway"),
        ),
        Sources(
            node=NodeReader(node.folder.path).read,
            gpus=probe.current,
            replicas=usage,
            gateway=node.gateway.read,
        ),
        SchedulerSink(scheduler),
        node.clock,
        ReportGauges(node.metrics),
    )
