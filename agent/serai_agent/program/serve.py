"""The life of the agent's process: start what the roles ask for, run the loops, end.

HAProxy is left running and serving at the end, so that an update of the agent touches no request;
only a drain ends it.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from aiohttp import web

from serai.clock import SystemClock
from serai.consul.client import ConsulClient
from serai.errors import Refused, Unavailable
from serai.supervisor import Supervisor
from serai_agent.edge.exporter import GatewayMetrics
from serai_agent.edge.wake_door import WakeDoor
from serai_agent.program.config import AgentConfig, listen_tls, read_secrets
from serai_agent.program.drain import drain
from serai_agent.program.holding import holding
from serai_agent.program.node import EDGE, AgentNode, CachePart, GatewayPart
from serai_agent.report.health import Access, listening

log = logging.getLogger(__name__)

REPORT_PERIOD_S = 1.0
USAGE_PERIOD_S = 1.0
REGISTER_PERIOD_S = 2.0
PRUNE_PERIOD_S = 600.0
STOP_GRACE_S = 5.0
"""What HAProxy gives connections after a drain: those that are open and idle."""
EXIT_FORCED = 130


@dataclass(frozen=True)
class Asked:
    """What somebody asked this process for, by signals."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    drain: asyncio.Event = field(default_factory=asyncio.Event)


async def serve(config: AgentConfig, drain_at_once: bool = False) -> int:
    """Run until a signal ends it; return the exit status.

    ConfigError and Unavailable: nothing was started that was not there before.
    """
    asked = Asked()
    _on_signals(asked)
    if drain_at_once:
        asked.drain.set()
    secrets = read_secrets(config)
    access = Access(secrets.listen_token, listen_tls(config))
    with holding(Path(config.data_dir)):
        async with ConsulClient(secrets.consul) as consul:
            node = AgentNode(config, secrets, consul, SystemClock())
            if node.gateway is not None:
                node.gateway.draining = drain_at_once
            async with (
                node.schedulers,
                listening(
                    config.listen.host,
                    config.listen.port,
                    node.watched.collectors,
                    node.problems,
                    access,
                    _more_routes(node),
                ) as port,
                _gateway(node),
                _cache(node.cache),
            ):
                facts = {"node": config.node, "roles": list(config.roles), "port": port}
                log.info("agent runs", extra=facts)
                drained = await _run(node, secrets.agent_token, asked)
                if drained and node.gateway:
                    await _end(node.gateway)
    return 0


def _more_routes(node: AgentNode) -> Sequence[web.RouteDef]:
    if node.gateway is None:
        return ()
    metrics = GatewayMetrics(Path(node.config.data_dir) / EDGE)
    return (web.get("/metrics/gateway", metrics.answer),)


@asynccontextmanager
async def _gateway(node: AgentNode) -> AsyncIterator[None]:
    """Attach to HAProxy, or start it, and let go of it at the end."""
    if (part := node.gateway) is None:
        yield
        return
    await part.haproxy.start(part.draining)
    try:
        folder = Path(node.config.data_dir) / EDGE
        async with WakeDoor(folder, node.schedulers, node.clock).listening():
            yield
    finally:
        part.haproxy.detach()


@asynccontextmanager
async def _cache(part: CachePart | None) -> AsyncIterator[None]:
    if part is None:
        yield
        return
    await part.cache.open()
    try:
        yield
    finally:
        await part.cache.close()


async def _run(node: AgentNode, token: str, asked: Asked) -> bool:
    """Run all loops until told to stop; return whether the gateway was drained to the end."""
    async with Supervisor(node.clock, Random(), node.watched.loops) as loops:
        probe, sink = node.make_probe(), node.make_sink(token)
        loops.start("leader", node.leader.run)
        loops.start("gpus", probe.run)
        reports = node.make_reports(probe, sink)
        loops.start_periodic("report", REPORT_PERIOD_S, reports.step)
        loops.start("send", sink.run)
        if node.usage is not None:
            loops.start_periodic("usage", USAGE_PERIOD_S, node.usage.measure)
        if node.nomad is not None:
            loops.start("nomad", node.nomad.run)
        if (part := node.gateway) is not None:
            loops.start("registry", part.registry.run)
            loops.start("gateways", part.gateways.run)
            loops.start("steer", lambda: part.steering.run(loops.lateness("steer")))
            loops.start("news", lambda: reports.tell(part.steering.news))
            loops.start_periodic("register", REGISTER_PERIOD_S, part.register)
        if (cache := node.cache) is not None:
            loops.start("wishes", cache.wishes.run)
            loops.start_periodic("prune", PRUNE_PERIOD_S, cache.prune)
        return await _until_told(node, asked)


async def _until_told(node: AgentNode, asked: Asked) -> bool:
    stop = asyncio.create_task(asked.stop.wait())
    told = asyncio.create_task(asked.drain.wait())
    draining: asyncio.Task[None] | None = None
    try:
        await asyncio.wait({stop, told}, return_when=asyncio.FIRST_COMPLETED)
        if asked.stop.is_set() or node.gateway is None:
            return False
        draining = asyncio.create_task(drain(node.gateway, node.clock))
        await asyncio.wait({stop, draining}, return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            log.warning("drain was broken off; the gateway's check stays red until the next start")
            return False
        draining.result()
        return True
    finally:
        for task in (stop, told, draining):
            if task is not None:
                task.cancel()


async def _end(part: GatewayPart) -> None:
    await part.haproxy.stop(STOP_GRACE_S)
    log.info("haproxy has ended")
    with contextlib.suppress(Unavailable, Refused):  # its check is red in any case
        await part.registration.withdraw()


def _on_signals(asked: Asked) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if asked.stop.is_set():
            os._exit(EXIT_FORCED)
        asked.stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGUSR1, asked.drain.set)
