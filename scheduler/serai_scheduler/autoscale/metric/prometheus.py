"""Asks a Prometheus: one query at a time for the trial of a deploy, all of them in the background.

No query waits for another beyond a bound, and nothing waits for any of them: the autoscaler reads
what was answered last.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NoReturn, Self

import aiohttp

from serai.certificates import TlsKeys
from serai.clock import Clock
from serai.errors import Unavailable
from serai.http import read_start, translated
from serai.trust import client_tls
from serai_scheduler.autoscale.metric.address import query_url
from serai_scheduler.autoscale.metric.answers import MOST_BYTES, Answer, read, unanswered
from serai_scheduler.autoscale.metric.book import MetricBook, Question
from serai_scheduler.autoscale.metric.need import Reading

DEADLINE_S = 5.0
AT_ONCE = 8
"""So many queries are open: others wait for no more than DEADLINE_S until one of them ends."""
LOOK_EVERY_S = 0.25
NOT_REACHED = "Prometheus is not reached"
KEYS = TlsKeys(address="autoscaling.prometheus")
NOWHERE = (
    "this scheduler has no Prometheus: name one by `prometheus` in `[autoscaling]` of its "
    "configuration, or by `serai up --prometheus URL`"
)


class Prometheus:
    """Instant queries to one address, for an `async with` block; every error is an Answer."""

    def __init__(self, clock: Clock, address: str) -> None:
        self._clock = clock
        self._url = query_url(address)
        self._https = address.startswith("https:")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        tls = client_tls("autoscaling", "") if self._https else False
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=AT_ONCE, ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A small answer may be a large one once it is unpacked.
            auto_decompress=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(self, promql: str) -> Answer:
        """Return what is answered within DEADLINE_S."""
        assert self._session is not None
        try:
            async with (
                asyncio.timeout(DEADLINE_S),
                translated(NOT_REACHED, KEYS),
                self._session.get(
                    self._url, params={"query": promql}, allow_redirects=False
                ) as response,
            ):
                body = await read_start(response, MOST_BYTES + 1)
                return read(response.status, body, self._clock.wall())
        except TimeoutError:
            return unanswered(f"Prometheus gave no answer within {DEADLINE_S:g} s")
        except Unavailable as error:
            return unanswered(str(error))
        except ValueError as error:  # an address that its library cannot ask, whatever it is
            return unanswered(f"Prometheus cannot be asked: {error}")


class Metrics:
    """The metrics of all APIs that have one; `address` is where Prometheus is, "" for nowhere.

    `run` runs under a supervisor.
    """

    def __init__(self, clock: Clock, address: str) -> None:
        self._clock = clock
        self._address = address
        self.book = MetricBook()

    def follow(self, wanted: Mapping[str, str]) -> None:
        """Ask for these from now on: by API its query."""
        self.book.follow(self._clock.now(), wanted)

    def reading(self, api: str) -> Reading:
        """Return what is known of an API's metric; it never waits."""
        return self.book.reading(self._clock.now(), api)

    async def run(self) -> NoReturn:
        """Ask for ever."""
        async with (
            Prometheus(self._clock, self._address) as prometheus,
            asyncio.TaskGroup() as group,
        ):
            gate = asyncio.Semaphore(AT_ONCE)
            while True:
                await gate.acquire()
                question = self.book.next(self._clock.now())
                if question is None:
                    gate.release()
                    await self._clock.sleep(LOOK_EVERY_S)
                else:
                    group.create_task(self._asked(prometheus, question, gate))

    async def _asked(
        self, prometheus: Prometheus, question: Question, gate: asyncio.Semaphore
    ) -> None:
        answer = None
        try:
            answer = (
                await prometheus.ask(question.promql) if self._address else Answer(None, NOWHERE)
            )
        finally:
            gate.release()
            self.book.take(self._clock.now(), question, answer)


async def refusals(clock: Clock, address: str, queries: Sequence[str]) -> dict[str, str]:
    """Return by query why none of its answers can ever be a number, as Prometheus says within 5 s.

    A Prometheus that is away refuses nothing: a deploy must be possible just when other things
    fail, and it is not what is deployed that is wrong. Until it answers, the count is held and
    `serai explain` says so.
    """
    found: dict[str, str] = {}
    gate = asyncio.Semaphore(AT_ONCE)

    async def tried(prometheus: Prometheus, promql: str) -> None:
        async with gate:
            answer = await prometheus.ask(promql)
        if answer.invalid:
            found[promql] = answer.fault

    async with Prometheus(clock, address) as prometheus:
        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
                for promql in dict.fromkeys(queries):
                    group.create_task(tried(prometheus, promql))
    return found
