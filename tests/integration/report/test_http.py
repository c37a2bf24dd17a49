"""Reports over HTTP: taken, refused, late, and never more than one on its way."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from aiohttp import web

from serai.errors import Refused, Unavailable
from serai.http import problem
from serai.report import MAX_REPORT_BYTES, NodeReport
from serai.report_accept import Last, accept, newest
from serai_agent.report.beat import assemble
from serai_agent.report.sender import HttpSink
from tests.integration.cli.servers import sending as answering
from tests.integration.cli.servers import server
from tests.support.ports import free_port
from tests.support.wait import auntil
from tests.unit.report.parts import WHO, parts

REPORT = assemble(WHO, 1, 2000.0, parts()).report


def numbered(sequence: int) -> NodeReport:
    return msgspec.structs.replace(REPORT, sequence=sequence)


class Scheduler:
    """The receiving side: takes reports as the real one does, or holds its answer back."""

    def __init__(self) -> None:
        self.last: dict[str, Last] = {}
        self.taken: list[int] = []
        self.tokens: set[str] = set()
        self.asked = 0
        self.demand_since = 7
        self.open = asyncio.Event()
        self.open.set()

    async def post(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.tokens.add(request.headers["Authorization"])
        raw = await request.read()
        await self.open.wait()
        try:
            report = accept(raw, self.last.get)
        except Refused as error:
            return problem(409, error.code, str(error))
        self.last[report.node] = newest(report)
        self.taken.append(report.sequence)
        return web.json_response({"demand_since": self.demand_since})


class Kept:
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def ended(self, outcome: str) -> None:
        self.outcomes.append(outcome)


@pytest.fixture
async def scheduler() -> AsyncIterator[tuple[Scheduler, str]]:
    scheduler = Scheduler()
    app = web.Application(client_max_size=MAX_REPORT_BYTES)
    app.router.add_post("/v1/reports", scheduler.post)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield scheduler, f"http://127.0.0.1:{runner.addresses[0][1]}"
    scheduler.open.set()
    await runner.cleanup()


class Leading:
    """Who takes the reports, until somebody else is `elected`; "" for nobody."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._changed = asyncio.Event()

    def leader_url(self) -> str:
        if not self._url:
            raise Unavailable("nobody leads")
        return self._url

    async def moved_from(self, url: str) -> None:
        while self._url == url:
            await self._changed.wait()

    def elected(self, url: str) -> None:
        self._url = url
        self._changed.set()
        self._changed = asyncio.Event()


@asynccontextmanager
async def sending(
    leading: Leading | str, deadline_s: float = 10.0
) -> AsyncIterator[tuple[HttpSink, Kept]]:
    kept = Kept()
    receiver = Leading(leading) if isinstance(leading, str) else leading
    async with aiohttp.ClientSession() as session:
        sink = HttpSink(session, receiver, "secret", kept, deadline_s)
        task = asyncio.create_task(sink.run())
        try:
            yield sink, kept
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_reports_arrive_with_the_token(scheduler: tuple[Scheduler, str]) -> None:
    there, url = scheduler
    async with sending(url) as (sink, kept):
        for sequence in (1, 2, 3):
            await sink.send(numbered(sequence))
            await auntil(lambda: len(kept.outcomes) == sequence)  # noqa: B023
    assert there.taken == [1, 2, 3]
    assert there.tokens == {"Bearer secret"}
    assert kept.outcomes == ["sent"] * 3


async def test_while_one_is_on_its_way_newer_ones_replace_each_other(
    scheduler: tuple[Scheduler, str],
) -> None:
    there, url = scheduler
    there.open.clear()
    async with sending(url) as (sink, kept):
        await sink.send(numbered(1))
        await auntil(lambda: there.asked == 1)
        for sequence in (2, 3, 4):
            await sink.send(numbered(sequence))
        there.open.set()
        await auntil(lambda: len(there.taken) == 2)
    assert there.taken == [1, 4]
    assert there.asked == 2
    assert kept.outcomes.count("replaced") == 2


async def test_a_refused_report_is_told_once_and_the_next_is_tried(
    scheduler: tuple[Scheduler, str], caplog: pytest.LogCaptureFixture
) -> None:
    there, url = scheduler
    there.last["n1"] = (REPORT.started_at_s, 5)
    with caplog.at_level(logging.INFO):
        async with sending(url) as (sink, kept):
            for count, sequence in enumerate((1, 1, 6), start=1):
                await sink.send(numbered(sequence))
                await auntil(lambda: len(kept.outcomes) == count)  # noqa: B023
    assert kept.outcomes == ["refused", "refused", "sent"]
    ours = [r for r in caplog.records if r.name == "serai_agent.report.sender"]
    assert [r.message for r in ours] == ["report was not taken", "reports are taken again"]
    assert "is old" in str(vars(ours[0])["why"])


async def test_a_scheduler_that_does_not_answer_costs_one_report(
    scheduler: tuple[Scheduler, str],
) -> None:
    there, url = scheduler
    there.open.clear()
    async with sending(url, deadline_s=1.0) as (sink, kept):
        await sink.send(numbered(1))
        await auntil(lambda: kept.outcomes == ["failed"])
        there.open.set()
        await sink.send(numbered(2))
        await auntil(lambda: kept.outcomes == ["failed", "sent"])
    assert 2 in there.taken


async def test_a_scheduler_with_a_certificate_of_another_ca_is_told_with_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with server(answering(b""), secure=True) as url:
        async with sending(url) as (sink, kept):
            await sink.send(numbered(1))
            await auntil(lambda: kept.outcomes == ["failed"])
    (told,) = [r for r in caplog.records if r.message == "report was not taken"]
    why = str(vars(told)["why"])
    assert why.startswith("the scheduler: its certificate cannot be verified (self-signed")
    assert why.endswith("; name the certificates that it is checked by in `scheduler.ca`")


async def test_a_scheduler_that_is_away_is_no_error_of_the_loop() -> None:
    async with sending(f"http://127.0.0.1:{free_port()}") as (sink, kept):
        await sink.send(numbered(1))
        await auntil(lambda: kept.outcomes == ["failed"])
        await sink.send(numbered(2))
        await auntil(lambda: kept.outcomes == ["failed", "failed"])


async def test_a_scheduler_says_which_demand_it_lacks_and_a_new_one_lacks_all(
    scheduler: tuple[Scheduler, str],
) -> None:
    there, url = scheduler
    async with sending(url, deadline_s=1.0) as (sink, kept):
        assert sink.demand_since == 0
        await sink.send(numbered(1))
        await auntil(lambda: kept.outcomes == ["sent"])
        assert sink.demand_since == 7
        there.open.clear()
        await sink.send(numbered(2))
        await auntil(lambda: kept.outcomes == ["sent", "failed"])
        assert sink.demand_since == 0


@asynccontextmanager
async def never_answering() -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
    """Take connections as a process that stands still: nothing is ever answered."""
    begun: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.put_nowait(await reader.readline())
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", begun


@pytest.mark.parametrize("between", [(), ("",)], ids=["at once", "with nobody between"])
async def test_a_leader_that_stands_still_holds_no_report_back_once_another_one_leads(
    scheduler: tuple[Scheduler, str], between: tuple[str, ...]
) -> None:
    """What was on its way to a paused leader kept the next one waiting until the deadline."""
    there, url = scheduler
    async with never_answering() as (paused, begun):
        leading = Leading(paused)
        async with sending(leading, deadline_s=60.0) as (sink, kept):
            sink.demand_since = 7
            await sink.send(numbered(1))
            await begun.get()
            for nobody in between:
                leading.elected(nobody)
                await auntil(lambda: kept.outcomes == ["failed"])
            assert sink.demand_since == (0 if between else 7)
            leading.elected(url)
            if between:
                await sink.send(numbered(2))
            await auntil(lambda: kept.outcomes[-1:] == ["sent"], 2.0)
        assert there.taken == [2 if between else 1]


async def test_of_what_waits_for_another_leader_the_newest_is_sent(
    scheduler: tuple[Scheduler, str],
) -> None:
    there, url = scheduler
    async with never_answering() as (paused, begun):
        leading = Leading(paused)
        async with sending(leading, deadline_s=60.0) as (sink, kept):
            for sequence in (1, 2, 3):
                await sink.send(numbered(sequence))
                if sequence == 1:
                    await begun.get()
            leading.elected(url)
            await auntil(lambda: there.taken == [3], 2.0)
            await auntil(lambda: kept.outcomes == ["replaced", "replaced", "sent"], 2.0)
