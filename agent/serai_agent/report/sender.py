"""Sends one report a second, whatever becomes of its parts or of the scheduler.

Each part has a deadline and is left out when it fails; a scheduler that is away costs reports,
not the loop: at most one report is on its way, and of those that wait only the newest is kept.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

import aiohttp
import psutil

from serai import http, wire
from serai.clock import Clock
from serai.errors import Refused, SeraiError, Unavailable
from serai.report import GatewayReading, Gpus, NodeReport, ReplicaUsage
from serai_agent.report.beat import Identity, NodeReading, Parts, assemble

_log = logging.getLogger(__name__)

T = TypeVar("T")

PERIOD_S = 1.0
PART_DEADLINE_S = 0.8
SEND_DEADLINE_S = 2.0
MAX_ANSWER_BYTES = 2**16

_EXPECTED = (SeraiError, OSError, TimeoutError, psutil.Error)


class ReportSink(Protocol):
    """Where reports go: over HTTP, or within the process to the scheduler."""

    async def send(self, report: NodeReport) -> None:
        """Take a report soon; never wait for the other side for long."""
        ...


class ReportWatcher(Protocol):
    """Who is told of each report that was made (`serai_agent.report.gauges.ReportGauges`)."""

    def made(self, parts: Parts) -> None: ...

    def part_missing(self, part: str) -> None: ...


class Unwatched:
    """A watcher that keeps nothing."""

    def made(self, parts: Parts) -> None:
        return None

    def part_missing(self, part: str) -> None:
        return None


@dataclass(frozen=True)
class Sources:
    """Where the parts of a report come from; `replicas` and `gateway` are None where not run."""

    node: Callable[[], Awaitable[NodeReading]]
    gpus: Callable[[], Gpus]
    replicas: Callable[[], Awaitable[Sequence[ReplicaUsage]]] | None = None
    gateway: Callable[[], Awaitable[GatewayReading]] | None = None


class ReportLoop:
    """Makes and sends reports; `step` is one of them, to be run every `PERIOD_S` seconds."""

    def __init__(
        self,
        who: Identity,
        sources: Sources,
        sink: ReportSink,
        clock: Clock,
        watcher: ReportWatcher | None = None,
        part_deadline_s: float = PART_DEADLINE_S,
    ) -> None:
        self._who = who
        self._sources = sources
        self._sink = sink
        self._clock = clock
        self._watcher = watcher or Unwatched()
        self._part_deadline_s = part_deadline_s
        self._sequence = 0
        self._missing: dict[str, str] = {}
        self._left_out: tuple[str, ...] = ()

    async def step(self) -> None:
        """Gather the parts side by side, put them together and send them."""
        parts = await self._gather()
        self._watcher.made(parts)
        self._sequence += 1
        beat = assemble(self._who, self._sequence, self._clock.wall(), parts)
        if beat.left_out and beat.left_out != self._left_out:
            _log.warning("report is cut to its limits", extra={"left_out": beat.left_out})
        self._left_out = beat.left_out
        await self._sink.send(beat.report)

    async def _gather(self) -> Parts:
        sources = self._sources
        async with asyncio.TaskGroup() as group:
            node = group.create_task(self._part("node", sources.node))
            replicas = group.create_task(self._part("replicas", sources.replicas))
            gateway = group.create_task(self._part("gateway", sources.gateway))
        usage = replicas.result()
        return Parts(
            node=node.result() or NodeReading(cpu_count=psutil.cpu_count() or 1),
            gpus=sources.gpus(),
            replicas=None if usage is None else tuple(usage),
            gateway=gateway.result(),
        )

    async def _part(self, name: str, read: Callable[[], Awaitable[T]] | None) -> T | None:
        """Return a part, or None when it fails or is late: unknown, and said once."""
        if read is None:
            return None
        try:
            async with asyncio.timeout(self._part_deadline_s):
                part = await read()
        except _EXPECTED as error:
            self._tell_missing(name, str(error) or type(error).__name__)
            return None
        if self._missing.pop(name, None):
            _log.info("part of the report is back", extra={"part": name})
        return part

    def _tell_missing(self, name: str, why: str) -> None:
        self._watcher.part_missing(name)
        if name not in self._missing:
            _log.warning("part of the report is missing", extra={"part": name, "why": why})
        self._missing[name] = why


class SendWatcher(Protocol):
    """Who is told what became of each report: sent, refused, failed or replaced."""

    def ended(self, outcome: str) -> None: ...


class HttpSink:
    """Posts reports to a scheduler. `run` is a long-lived loop, and `send` never waits.

    `session` is the caller's (TLS and connection limits are set there); `url` is the scheduler's,
    `token` its bearer token. While one report is on its way, newer ones replace each other.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        token: str,
        watcher: SendWatcher | None = None,
        deadline_s: float = SEND_DEADLINE_S,
    ) -> None:
        self._session = session
        self._url = f"{url.rstrip('/')}/v1/reports"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._watcher = watcher
        self._deadline_s = deadline_s
        self._next: NodeReport | None = None
        self._wake = asyncio.Event()
        self._told = ""

    async def send(self, report: NodeReport) -> None:
        """Have `report` sent next, in place of one that still waits."""
        if self._next is not None:
            self._note("replaced")
        self._next = report
        self._wake.set()

    async def run(self) -> NoReturn:
        """Send what is given, one at a time; a failure is told once and the next one is tried."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            report, self._next = self._next, None
            if report is not None:
                await self._try(report)

    async def _try(self, report: NodeReport) -> None:
        try:
            await self._post(report)
        except (Unavailable, Refused) as error:
            self._note("refused" if isinstance(error, Refused) else "failed")
            if str(error) != self._told:
                _log.warning("report was not taken", extra={"why": str(error)})
            self._told = str(error)
            return
        self._note("sent")
        if self._told:
            _log.info("reports are taken again")
        self._told = ""

    async def _post(self, report: NodeReport) -> None:
        async with http.translated("the scheduler"), asyncio.timeout(self._deadline_s):
            body = wire.encode(report)
            async with self._session.post(
                self._url, data=body, headers=self._headers, allow_redirects=False
            ) as response:
                if response.status < 300:
                    return
                raw = await response.content.read(MAX_ANSWER_BYTES)
                raise http.error_of(response.status, response.content_type, raw)

    def _note(self, outcome: str) -> None:
        if self._watcher:
            self._watcher.ended(outcome)
