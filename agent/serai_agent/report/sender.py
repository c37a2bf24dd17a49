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
import msgspec
import psutil

from serai import http, wire
from serai.certificates import TlsKeys
from serai.clock import Clock
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.report import (
    GatewayReading,
    Gpus,
    NodeReport,
    NomadReading,
    ReplicaUsage,
    ReportTaken,
)
from serai.tasks import cancelled
from serai_agent.report.beat import Identity, NodeReading, Parts, assemble
from serai_agent.report.demand import DemandHistory

_log = logging.getLogger(__name__)

T = TypeVar("T")

PERIOD_S = 1.0
NEWS_PAUSE_S = 0.05
"""Between two reports that news gave cause for."""
PART_DEADLINE_S = 0.8
SEND_DEADLINE_S = 2.0
MAX_ANSWER_BYTES = 2**16
TLS_KEYS = TlsKeys(ca="scheduler.ca")

_EXPECTED = (SeraiError, OSError, TimeoutError, psutil.Error)


class ReportSink(Protocol):
    """Where reports go: over HTTP, or within the process to the scheduler."""

    @property
    def demand_since(self) -> int:
        """From which slot on the scheduler has to be told the demand; 0 for all."""
        ...

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
    """Where the parts of a report come from; those are None that are not run here."""

    node: Callable[[], Awaitable[NodeReading]]
    gpus: Callable[[], Gpus]
    replicas: Callable[[], Awaitable[Sequence[ReplicaUsage]]] | None = None
    gateway: Callable[[], Awaitable[GatewayReading]] | None = None
    nomad: Callable[[], NomadReading] | None = None


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
        self._demand = DemandHistory()
        self._sequence = 0
        self._stepping = asyncio.Lock()
        """Two at once could tell what is older in the report that is newer."""
        self._missing: dict[str, str] = {}
        self._left_out: tuple[str, ...] = ()

    async def tell(self, news: asyncio.Event) -> NoReturn:
        """Report at once whenever there is news, which somebody may be waiting for."""
        while True:
            await news.wait()
            news.clear()
            await self.step()
            await self._clock.sleep(NEWS_PAUSE_S)

    async def step(self) -> None:
        """Gather the parts side by side, put them together and send them."""
        async with self._stepping:
            await self._step()

    async def _step(self) -> None:
        parts = self._with_demand(await self._gather())
        self._watcher.made(parts)
        self._sequence += 1
        beat = assemble(self._who, self._sequence, self._clock.wall(), parts)
        if beat.left_out and beat.left_out != self._left_out:
            _log.warning("report is cut to its limits", extra={"left_out": beat.left_out})
        self._left_out = beat.left_out
        await self._sink.send(beat.report)

    def _with_demand(self, parts: Parts) -> Parts:
        if parts.gateway is None:
            return parts
        self._demand.add(parts.gateway, self._clock.now(), self._clock.wall())
        demand = self._demand.since(self._sink.demand_since)
        gateway = msgspec.structs.replace(parts.gateway, demand=demand)
        return msgspec.structs.replace(parts, gateway=gateway)

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
            nomad=sources.nomad() if sources.nomad else None,
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


class Receiver(Protocol):
    """Whoever takes the reports at this moment."""

    def leader_url(self) -> str:
        """Return its URL; raises Unavailable or Refused while there is none to use."""
        ...

    async def moved_from(self, url: str) -> None:
        """Return once it is no longer the one at this URL."""
        ...


class HttpSink:
    """Posts reports to a scheduler. `run` is a long-lived loop, and `send` never waits.

    `session` is the caller's (TLS and connection limits are set there); `token` is the bearer
    token. While one report is on its way, newer ones replace each other; one whose receiver has
    been replaced meanwhile, and may never answer, goes to the next.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        receiver: Receiver,
        token: str,
        watcher: SendWatcher | None = None,
        deadline_s: float = SEND_DEADLINE_S,
    ) -> None:
        self._session = session
        self._receiver = receiver
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._watcher = watcher
        self._deadline_s = deadline_s
        self.demand_since = 0
        self._next: NodeReport | None = None
        self._wake = asyncio.Event()
        self._told = ""
        self.refusal = ""
        """Why the scheduler refused the last report, "" when it did not."""

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
            taken = await self._taken(report, self._receiver.leader_url())
        except (Unavailable, Refused) as error:
            self.demand_since = 0  # whoever takes the next one may know nothing yet
            self._note("refused" if isinstance(error, Refused) else "failed")
            self.refusal = str(error) if isinstance(error, Refused) else ""
            if str(error) != self._told:
                _log.warning("report was not taken", extra={"why": str(error)})
            self._told = str(error)
            return
        if taken is None:
            self.demand_since = 0
            await self.send(self._next or report)
            return
        self.demand_since = taken.demand_since
        self._note("sent")
        self.refusal = ""
        if self._told:
            _log.info("reports are taken again")
        self._told = ""

    async def _taken(self, report: NodeReport, url: str) -> ReportTaken | None:
        """Return the answer, None when the receiver was replaced before there was one."""
        posting = asyncio.ensure_future(self._post(report, url))
        moved = asyncio.ensure_future(self._receiver.moved_from(url))
        try:
            await asyncio.wait((posting, moved), return_when=asyncio.FIRST_COMPLETED)
            return posting.result() if posting.done() else None
        finally:
            await cancelled(posting, moved)

    async def _post(self, report: NodeReport, url: str) -> ReportTaken:
        async with http.translated("the scheduler", TLS_KEYS), asyncio.timeout(self._deadline_s):
            body = wire.encode(report)
            async with self._session.post(
                f"{url}/v1/reports", data=body, headers=self._headers, allow_redirects=False
            ) as response:
                raw = await http.read_start(response, MAX_ANSWER_BYTES)
                if response.status < 300:
                    return _understood(raw)
                raise http.error_of(response.status, response.content_type, raw)

    def _note(self, outcome: str) -> None:
        if self._watcher:
            self._watcher.ended(outcome)


def _understood(raw: bytes) -> ReportTaken:
    try:
        return wire.decode_answer(raw, ReportTaken)
    except ConfigError as error:
        raise Unavailable(f"the scheduler answered nonsense: {error}") from error
