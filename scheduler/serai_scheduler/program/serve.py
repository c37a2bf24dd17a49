"""The life of a scheduler's process: take the port, serve, lead when it can, end in good order."""

import asyncio
import fcntl
import logging
import os
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from aiohttp import web
from prometheus_client import CollectorRegistry

from serai.clock import Clock, SystemClock
from serai.consul.client import ConsulClient
from serai.consul.leader import LEADER
from serai.consul.leader_book import LeaderBook
from serai.consul.lease import ConsulLease
from serai.consul.store import ConsulStore
from serai.errors import ConfigError
from serai.listening import listen
from serai.metrics import LoopMetrics, Metrics
from serai.supervisor import Supervisor
from serai.tasks import cancelled
from serai_scheduler.api.app import assemble
from serai_scheduler.blobs.fill import LIMIT_S, PERIOD_S
from serai_scheduler.doctor import too_old
from serai_scheduler.leadership import lead
from serai_scheduler.ledger import Ledger
from serai_scheduler.nomad.client import NomadClient
from serai_scheduler.program.engine import EngineSide, nomad_side
from serai_scheduler.program.finishing import Finishing
from serai_scheduler.program.forward import Forwarder
from serai_scheduler.program.keeping import Keeping, keeping
from serai_scheduler.program.own import Own
from serai_scheduler.program.passing import Passing
from serai_scheduler.program.prepare import Prepared
from serai_scheduler.program.settings import SchedulerConfig
from serai_scheduler.program.term import Holdings, Terms
from serai_scheduler.service import Look
from serai_scheduler.state import State

log = logging.getLogger(__name__)

FINISH_LIMIT_S = 60.0
"""How long requests under way may take once it was told to end."""
LAST_BYTES_S = 5.0
LOCK_FILE = "lock"
LEDGER_FILE = "ledger.db"


async def serve(
    prepared: Prepared, stopping: asyncio.Event, side: EngineSide | None = None
) -> None:
    """Serve until `stopping` is set; `side` stands for Nomad in tests.

    Raises ConfigError when nothing was begun, or when what Consul holds is none of ours.
    """
    config = prepared.config
    clock = SystemClock()
    with _held(Path(config.data_dir)), listen(config.listen.host, config.listen.port) as port:
        async with ConsulClient(prepared.consul) as consul:
            if side is not None:
                await _run(_process(prepared, consul, side, clock), prepared, port, stopping)
                return
            nomad = NomadClient(prepared.nomad)
            try:
                made = nomad_side(nomad, consul, clock, config.jobs)
                await _run(_process(prepared, consul, made, clock), prepared, port, stopping)
            finally:
                await nomad.close()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the data folder for this process alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"data_dir: cannot use {folder}: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConfigError(
            f"data_dir: another scheduler holds {folder}; give each one its own"
        ) from error
    finally:
        os.close(held)


@dataclass(frozen=True)
class _Process:
    """One process's parts, made but not started."""

    config: SchedulerConfig
    clock: Clock
    lease: ConsulLease
    look: Look
    terms: Terms
    book: LeaderBook
    forwarder: Forwarder
    kept: Keeping
    watcher: LoopMetrics
    ledger: Ledger
    app: web.Application
    finishing: Finishing


def _process(prepared: Prepared, consul: ConsulClient, side: EngineSide, clock: Clock) -> _Process:
    config, prefix = prepared.config, prepared.config.consul.prefix
    name = f"serai-scheduler {config.address}"
    lease = ConsulLease(consul, clock, prefix + LEADER, name, config.lease)
    reading = ConsulStore(consul, clock, prefix)
    registry = CollectorRegistry()
    kept = keeping(prepared, clock, State(reading), Metrics("scheduler", registry))
    cluster = prepared.cluster
    holdings = Holdings(
        clock=clock,
        store=ConsulStore(consul, clock, prefix, lease, config.address),
        lease=lease,
        make_engine=side.make,
        look=side.look,
        blobs=kept.blobs,
        parts=kept.parts,
        cluster=cluster,
        jobs=config.jobs,
        mount_roots=config.mount_roots,
        limits=config.updates,
        ledger=(ledger := Ledger(Path(config.data_dir) / LEDGER_FILE)),
        outside=config.autoscaling,
    )
    terms = Terms(holdings, Random())
    book = LeaderBook(consul, clock, Random(), prefix)
    forwarder = Forwarder(book, clock, config.address, prepared.trust, lambda: terms.why_not)
    passing = Passing(terms, forwarder, State(reading), cluster.gateway_url, config.blobs_lie)
    own = Own(clock, terms, registry, lambda: reading.get(LEADER), side.ask)
    finishing = Finishing()
    between = [finishing.middleware(), passing.middleware()]
    routes = [*own.routes(), *kept.routes]
    app = assemble(terms.leading, kept.blobs, kept.parts, prepared.access, routes, between)
    finishing.watch(app)
    watcher = LoopMetrics(Metrics("scheduler_own", registry))
    return _Process(
        config,
        clock,
        lease,
        side.look,
        terms,
        book,
        forwarder,
        kept,
        watcher,
        ledger,
        app,
        finishing,
    )


async def _run(
    process: _Process, prepared: Prepared, port: socket.socket, stopping: asyncio.Event
) -> None:
    clock, config = process.clock, process.config
    loops = Supervisor(clock, Random(), process.watcher)
    async with process.forwarder, process.kept, process.ledger, loops:
        await _check_programs(process.look)
        # It outlives the listening: what is passed on may finish while the leader is followed.
        loops.start("follow", process.book.run)
        if (filling := process.kept.filling) is not None:
            loops.start_periodic("fill", PERIOD_S, filling.step, LIMIT_S)
        async with _listening(process, prepared, port):
            log.info("serving", extra={"address": config.address})
            terms = process.terms
            leading = lead(process.lease, clock, config.lease, terms.act, Random(), terms.tell)
            await _until(stopping, leading)
            log.info("ending", extra={"limit_s": FINISH_LIMIT_S})


async def _check_programs(look: Look) -> None:
    """Raise ConfigError for programs that are too old; what does not answer may still come."""
    seen = await look()
    if why := too_old(seen):
        raise ConfigError(why)
    for problem in (seen.nomad_problem, seen.consul_problem):
        if problem:
            log.warning("versions not known", extra={"why": problem})


@asynccontextmanager
async def _listening(
    process: _Process, prepared: Prepared, port: socket.socket
) -> AsyncIterator[None]:
    """Serve the operator API; at the end take no more requests and let those under way finish."""
    runner = web.AppRunner(process.app, access_log=None, shutdown_timeout=LAST_BYTES_S)
    await runner.setup()
    try:
        await web.SockSite(runner, port, ssl_context=prepared.serving).start()
        yield
    finally:
        process.forwarder.end_streams()
        if not await process.finishing.finish(runner, FINISH_LIMIT_S):
            log.warning("requests cut off", extra={"limit_s": FINISH_LIMIT_S})
        await runner.cleanup()


async def _until(stopping: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Run until told to stop; an error of the work passes through."""
    working, told = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((working, told), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancelled(working, told)
    if not working.cancelled():
        working.result()
