"""The life of a one-machine Serai's process: start everything, serve, drain, end."""

import asyncio
import os
import signal
import socket
from random import Random

from aiohttp import web

from serai.clock import SystemClock
from serai.errors import ConfigError
from serai.listening import listen
from serai.logs import setup
from serai.supervisor import Supervisor
from serai_agent.edge.exporter import GatewayMetrics
from serai_agent.report.gpu import GpuProbe
from serai_cli.embedded import Allowed
from serai_cli.embedded.folder import DataFolder, Endpoint
from serai_cli.embedded.loops import publish_forever, reporting, steering, waking
from serai_cli.embedded.node import Listening, Node
from serai_scheduler.api.app import make_app
from serai_scheduler.autoscale.loop import LEARNED_S, TRAFFIC_S
from serai_scheduler.autoscale.loop import TICK_S as AUTOSCALE_S
from serai_scheduler.ledger import FLUSH_S
from serai_scheduler.service import Scheduler

REPORT_PERIOD_S = 1.0
COLLECT_PERIOD_S = 600.0
DRAIN_LIMIT_S = 600.0
EXIT_FORCED = 130
ENDED_AT_ONCE = (
    "ended at once: the gateway and the replicas go on; "
    "`serai down` ends them, `serai up` takes them over"
)


async def serve(folder: DataFolder, listening: Listening, allowed: Allowed) -> int:
    """Run until a signal ends it; return the exit status. ConfigError: nothing was started."""
    setup("serai", form="text")
    stopping = asyncio.Event()
    _on_signals(stopping)
    if listening.gateway_port == listening.control_port:
        raise ConfigError(
            f"the gateway and the operator API cannot both have port {listening.control_port}; "
            "choose another --port or --control-port"
        )
    # Taken before anything is started, so that nothing is left when it cannot be had.
    with listen(listening.host, listening.control_port) as control:
        node = Node(folder, listening, SystemClock(), allowed)
        await node.store.open()
        try:
            await node.engine.open()
            await node.cache.open()
            try:
                return await _with_gateway(node, control, stopping)
            finally:
                await node.engine.shutdown(keep=True)
        finally:
            await node.store.close()


async def _with_gateway(node: Node, control: socket.socket, stopping: asyncio.Event) -> int:
    await node.gateway.start()
    try:
        scheduler = node.make_scheduler(await node.store.raise_epoch())
        async with Supervisor(node.clock, Random(), node.watcher) as loops:
            # The engine outlives the other loops: replicas are to end in good order.
            loops.start("engine", node.engine.run)
            await _with_api(node, scheduler, control, stopping)
            print("draining: requests in flight finish; Ctrl-C again exits at once", flush=True)
            await node.gateway.stop(DRAIN_LIMIT_S)
            await node.engine.shutdown(keep=False)
    finally:
        node.folder.withdraw()
        node.gateway.detach()
    return 0


async def _with_api(
    node: Node, scheduler: Scheduler, control: socket.socket, stopping: asyncio.Event
) -> None:
    """Serve the operator API and run every loop until told to stop."""
    listening = node.listening
    names = {"127.0.0.1", "localhost", "::1", listening.host, node.name}
    app = make_app(scheduler, node.folder.token(), frozenset(names))
    app.router.add_get("/metrics/gateway", GatewayMetrics(node.folder.path / "gateway").answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, control).start()
    try:
        await _run_loops(node, scheduler, stopping)
    finally:
        await runner.cleanup()


async def _run_loops(node: Node, scheduler: Scheduler, stopping: asyncio.Event) -> None:
    async with (
        node.ledger,
        waking(node, scheduler).listening(),
        Supervisor(node.clock, Random(), node.watcher) as agent,
        Supervisor(node.clock, Random(), scheduler.watcher) as loops,
    ):
        probe = GpuProbe(node.clock, Random(), on_late=agent.lateness("gpus"))
        node.engine.gpus = probe.count
        reports, steers = reporting(node, scheduler, probe), steering(node)
        agent.start("publish", lambda: publish_forever(node, agent.lateness("publish")))
        agent.start("steer", lambda: steers.run(agent.lateness("steer")))
        agent.start_periodic("report", REPORT_PERIOD_S, reports.step)
        agent.start("news", lambda: reports.tell(steers.news))
        agent.start("gpus", probe.run)
        loops.start("reconcile", scheduler.reconcile_forever)
        loops.start_periodic("autoscale", AUTOSCALE_S, scheduler.autoscaler.tick)
        loops.start_periodic("learned", LEARNED_S, scheduler.autoscaler.keep_learned)
        loops.start_periodic("traffic", TRAFFIC_S, scheduler.autoscaler.keep_traffic)
        loops.start("outside", scheduler.outside.run)
        loops.start("metrics", scheduler.outside.metrics.run)
        loops.start_periodic("ledger", FLUSH_S, node.ledger.flush)
        loops.start_periodic("collect", COLLECT_PERIOD_S, scheduler.collect)
        _announce(node)
        await stopping.wait()


def _announce(node: Node) -> None:
    listening = node.listening
    node.folder.announce(Endpoint(listening.control_url, listening.gateway_url, os.getpid()))
    print(f"Serai serves at {listening.gateway_url}, control at {listening.control_url}")
    print(f"  data   {node.folder.path}")
    print("  next   serai deploy FOLDER | serai get | Ctrl-C to end", flush=True)


def _on_signals(stopping: asyncio.Event) -> None:
    def asked() -> None:
        if stopping.is_set():
            print(ENDED_AT_ONCE, flush=True)
            os._exit(EXIT_FORCED)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked)


async def end_leftovers(folder: DataFolder) -> int:
    """End the HAProxy and the replicas that a crash left behind; return how many replicas."""
    setup("serai", form="text")
    folder.lock()
    node = Node(folder, Listening("127.0.0.1", 0, 0), SystemClock(), Allowed())
    await node.engine.open()
    alive = [replica for replica in await node.engine.observe() if replica.alive]
    async with Supervisor(node.clock, Random()) as loops:
        loops.start("engine", node.engine.run)
        await node.gateway.stop(10.0)
        await node.engine.shutdown(keep=False)
    return len(alive)
