"""What may stand between schedulers and their engines: it keeps every write, and can go wrong.

A link carries HTTP from a port of a machine's loopback to one program of that machine, in this
process, so that it works on while the scheduler or the engine stands still.
"""

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from serai_scheduler.program.forward import passed_headers
from tests.cluster.machines import CONSUL_PORT, NOMAD_PORT, Machine
from tests.cluster.serai_cluster import SeraiCluster

LINK_PORTS = {"consul": CONSUL_PORT + 10_000, "nomad": NOMAD_PORT + 10_000}
PORTS = {"consul": CONSUL_PORT, "nomad": NOMAD_PORT}
READS = (hdrs.METH_GET, hdrs.METH_HEAD)
SESSIONS = "/v1/session/"
START_LIMIT_S = 10.0
END_LIMIT_S = 0.1
SEED = 7


@dataclass(frozen=True)
class Faults:
    """What goes wrong from now on: how late each answer is, and how many go wrong.

    `lost` is the share of answers that never arrive, `doubled` that of writes which are carried
    out twice; the second answer is lost.
    """

    late_s: float = 0.0
    lost: float = 0.0
    doubled: float = 0.0


@dataclass(frozen=True)
class Call:
    """A write as it was passed on at `at_s`; `status` is 0 when there was no answer."""

    at_s: float
    machine: str
    engine: str
    method: str
    path: str
    digest: str
    status: int

    @property
    def changed(self) -> bool:
        """Say whether it changed anything but sessions: those who wait to lead have theirs, too."""
        return not self.refused and not self.path.startswith(SESSIONS)

    @property
    def refused(self) -> bool:
        """Say whether the engine would not do it, or did not answer."""
        return not 200 <= self.status < 300

    def __str__(self) -> str:
        return f"{self.engine}: {self.method} {self.path} ({self.digest[:8]}): {self.status}"


@dataclass
class Links:
    """All links, and what was written through them."""

    faults: Faults = field(default_factory=Faults)
    writes: list[Call] = field(default_factory=list)
    wrong: int = 0
    """How many answers came late or never, or writes were carried out twice."""

    @contextmanager
    def failing(self, faults: Faults) -> Iterator[None]:
        """Let calls go wrong for as long as the block lasts."""
        self.faults = faults
        try:
            yield
        finally:
            self.faults = Faults()

    def now_s(self) -> float:
        """Return the time by which the writes are noted."""
        return time.monotonic()  # noqa: TID251

    def of(self, machine: str, since_s: float = 0.0) -> list[Call]:
        """Return what a machine's scheduler wrote since then."""
        return [one for one in self.writes if one.machine == machine and one.at_s >= since_s]


@contextmanager
def linked(serai: SeraiCluster) -> Iterator[Links]:
    """Have a link in front of each scheduler's engines; the schedulers start anew for it."""
    links, stop, ready = Links(), threading.Event(), threading.Event()
    ends = [
        _End(links, machine, engine, machine.host.listen(port))
        for machine in serai.machines.servers
        for engine, port in LINK_PORTS.items()
    ]
    thread = threading.Thread(target=lambda: asyncio.run(_serve(ends, ready, stop)))
    thread.start()
    try:
        assert ready.wait(START_LIMIT_S)
        serai.restart_schedulers(LINK_PORTS["consul"], LINK_PORTS["nomad"])
        yield links
        serai.restart_schedulers()
    finally:
        stop.set()
        thread.join()


async def _serve(ends: "list[_End]", ready: threading.Event, stop: threading.Event) -> None:
    # A connection for each call: one that is kept may have ended meanwhile.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
    ) as session:
        runners = [await one.open(session) for one in ends]
        ready.set()
        await asyncio.to_thread(stop.wait)
        await asyncio.gather(*(runner.cleanup() for runner in runners))


class _End:
    """One link: a socket in a machine, and the program that is called through it."""

    def __init__(
        self, links: Links, machine: Machine, engine: str, listening: socket.socket
    ) -> None:
        self._links, self._machine, self._engine = links, machine, engine
        self._listening = listening
        self._random = Random(f"{SEED} {machine.name} {engine}")

    async def open(self, session: aiohttp.ClientSession) -> web.ServerRunner:
        """Take calls from now on."""
        self._session = session
        runner = web.ServerRunner(web.Server(self._carry), shutdown_timeout=END_LIMIT_S)
        await runner.setup()
        await web.SockSite(runner, self._listening).start()
        return runner

    async def _carry(self, request: web.BaseRequest) -> web.Response:
        faults, body = self._links.faults, await request.read()
        doubled = request.method not in READS and self._random.random() < faults.doubled
        lost = self._random.random() < faults.lost
        self._links.wrong += bool(doubled or lost or faults.late_s)
        answer = await self._call(request, body)
        if doubled:
            await self._call(request, body)
        if faults.late_s:
            await asyncio.sleep(faults.late_s)  # noqa: TID251  # a slow line is what is tested
        if answer is None or lost:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return answer

    async def _call(self, request: web.BaseRequest, body: bytes) -> web.Response | None:
        """Pass a call on; None when it is not answered."""
        at_s = self._links.now_s()
        base = f"http://{self._machine.address}:{PORTS[self._engine]}"
        url = URL(base + request.raw_path, encoded=True)
        answer = None
        try:
            async with self._session.request(
                request.method, url, data=body or None, headers=passed_headers(request.headers)
            ) as got:
                headers = passed_headers(got.headers)
                answer = web.Response(status=got.status, body=await got.read(), headers=headers)
        except (aiohttp.ClientError, OSError):
            answer = None
        if request.method not in READS:
            self._links.writes.append(
                Call(
                    at_s=at_s,
                    machine=self._machine.name,
                    engine=self._engine,
                    method=request.method,
                    path=request.path,
                    digest=hashlib.sha256(body).hexdigest(),
                    status=answer.status if answer is not None else 0,
                )
            )
        return answer
