"""The agent's loops on one machine: publish what is ready, steer HAProxy, report."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

from serai import wire
from serai.errors import Refused
from serai.gateways import OneGateway
from serai.model import Replica, ReplicaState
from serai.report import NodeReport, ReplicaUsage
from serai.waking import WakeProgress
from serai_agent.edge import steer
from serai_agent.edge.steer import REPAIR_PERIOD_S, OnLate, Rhythm, Steering
from serai_agent.edge.wake_door import WakeDoor
from serai_agent.report.beat import Identity
from serai_agent.report.gauges import ReportGauges
from serai_agent.report.gpu import GpuProbe
from serai_agent.report.node import NodeReader
from serai_agent.report.sender import ReportLoop, Sources
from serai_cli.embedded.node import Node
from serai_scheduler.api import wake
from serai_scheduler.service import Scheduler

log = logging.getLogger(__name__)

ADOPT_LIMIT_S = 3.0
POLL_S = 0.05


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


def steering(node: Node) -> Steering:
    """Return what steers this machine's HAProxy."""
    sources = steer.Sources(node.store, node.registry, OneGateway(node.name, node.clock))
    return Steering(node.name, node.clock, node.gateway, sources)


class SchedulerSink:
    """Hands reports to the scheduler in the same process, in the form that they travel in."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.demand_since = 0

    async def send(self, report: NodeReport) -> None:
        try:
            self.demand_since = self._scheduler.take_report(wire.encode(report)).demand_since
        except Refused as refused:
            log.warning("report refused", extra={"why": str(refused)})


class SchedulerWaker:
    """Wakes APIs through the scheduler in the same process."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def wake(self, api: str) -> None:
        await wake.wake(self._scheduler, api)

    def looks(self, api: str) -> AsyncGenerator[WakeProgress, None]:
        return wake.looks(self._scheduler, api)


def waking(node: Node, scheduler: Scheduler) -> WakeDoor:
    """Return what answers callers of this machine's gateway who wake an API."""
    return WakeDoor(node.folder.path / "gateway", SchedulerWaker(scheduler), node.clock)


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
