"""`/<endpoint>/_serai/wake` through the real HAProxy: who is told what, and what stays."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
import pytest

from serai.clock import SystemClock
from serai.errors import Refused, Unavailable
from serai.waking import WakePhase, WakeProgress
from serai_agent.edge.wake_door import WakeDoor
from tests.integration.edge.asking import get
from tests.support.gateways import Edge, route
from tests.support.wait import auntil

EVENTS = {"Accept": "text/event-stream"}
WAKE = "/iris/_serai/wake"
STEPS = (
    WakeProgress(api="iris", phase=WakePhase.ASKED, reason="node-7 is full", eta_s=9.0),
    WakeProgress(api="iris", phase=WakePhase.LOADING, eta_s=2.0),
    WakeProgress(api="iris", phase=WakePhase.READY, eta_s=0.0),
)


class Scheduler:
    """A small one: it tells each of its steps once it is let."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.steps = STEPS
        self.wrong: Exception | None = None
        self.go_on = asyncio.Event()

    async def wake(self, api: str) -> None:
        if self.wrong is not None:
            raise self.wrong
        self.woken.append(api)

    async def looks(self, api: str) -> AsyncGenerator[WakeProgress, None]:
        for step in self.steps:
            yield step
            await self.go_on.wait()


@pytest.fixture
async def scheduler(one: Edge) -> AsyncIterator[Scheduler]:
    leads = Scheduler()
    async with WakeDoor(one.folder, leads, SystemClock()).listening():
        await one.gateway.apply([route(), route("text", endpoint="/nlp/v1/text")], [])
        yield leads
        leads.go_on.set()


def told(stream: str) -> list[tuple[str, str]]:
    """Return the name and the phase of each event."""
    found = []
    for block in stream.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])["phase"]))
    return found


async def test_a_state_is_told_at_once_and_the_api_is_woken(
    one: Edge, client: aiohttp.ClientSession, scheduler: Scheduler
) -> None:
    status, headers, body = await get(client, f"{one.url}{WAKE}?x=1")
    assert (status, scheduler.woken) == (200, ["iris"])
    state = json.loads(body)
    assert state.pop("elapsed_s") < 5.0
    assert state == {"api": "iris", "phase": "asked", "eta_s": 9.0}, "and no node is named"
    assert headers["cache-control"] == "no-store" and headers["x-request-id"]
    assert (await get(client, f"{one.url}/nlp/v1/text/_serai/wake"))[0] == 200
    assert scheduler.woken == ["iris", "text"]


async def test_a_stream_tells_each_phase_as_it_comes_and_ends(
    one: Edge, client: aiohttp.ClientSession, scheduler: Scheduler
) -> None:
    async with client.get(f"{one.url}{WAKE}", headers=EVENTS) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        start = await response.content.readuntil(b"}\n\n")
        assert b"asked" in start and b"retry: " in start
        scheduler.go_on.set()
        stream = (start + await response.content.read()).decode()
    assert told(stream) == [("progress", "asked"), ("progress", "loading"), ("ready", "ready")]


async def test_a_stream_is_no_request_of_the_api(
    one: Edge, client: aiohttp.ClientSession, scheduler: Scheduler
) -> None:
    async with client.get(f"{one.url}{WAKE}", headers=EVENTS) as response:
        await response.content.readuntil(b"}\n\n")
        reading = await one.gateway.read()
        assert all((v.held, v.in_flight, v.arrivals) == (0, 0, 0) for v in reading.versions)
        scheduler.go_on.set()
        await response.read()


async def test_what_only_looks_like_it_reaches_the_replica(
    one: Edge, client: aiohttp.ClientSession, scheduler: Scheduler
) -> None:
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    for path in ("/iris/a/_serai/wake", "/iris/_serai/wake/", "/iris/_serai/waken", "/iris/wake"):
        status, _, body = await get(client, f"{one.url}{path}")
        assert (status, json.loads(body)["path"]) == (200, path.removeprefix("/iris"))
    assert scheduler.woken == []
    assert (await get(client, f"{one.url}/nobody/_serai/wake"))[0] == 404


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        (Refused("set to 0; `serai scale`", "not_woken"), 409, "not_woken"),
        (Refused("no such API", "not_found"), 404, "not_found"),
        (Refused("forbidden", "forbidden"), 503, "no_progress"),
        (Unavailable("no leader"), 503, "no_progress"),
    ],
)
async def test_what_is_wrong_is_told_in_the_gateways_form(
    one: Edge,
    client: aiohttp.ClientSession,
    scheduler: Scheduler,
    wrong: Exception,
    status: int,
    code: str,
) -> None:
    scheduler.wrong = wrong
    for headers in (EVENTS, {}):
        found, answered, body = await get(client, f"{one.url}{WAKE}", headers=headers)
        error = json.loads(body)["error"]
        assert (found, error["code"]) == (status, code)
        assert error["request_id"] == answered["x-request-id"]
        assert "serai scale" not in body
        assert status != 503 or answered["retry-after"] == "7"


async def test_only_get_wakes(
    one: Edge, client: aiohttp.ClientSession, scheduler: Scheduler
) -> None:
    async with client.post(f"{one.url}{WAKE}", data=b"{}") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET")
    assert scheduler.woken == []


async def test_without_an_agent_it_is_503_and_requests_are_held_as_ever(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    await one.gateway.apply([route()], [])
    status, headers, body = await get(client, f"{one.url}{WAKE}", headers=EVENTS)
    assert (status, json.loads(body)["error"]["code"]) == (503, "no_progress")
    assert headers["retry-after"] == "7"
    held = asyncio.create_task(get(client, f"{one.url}/iris"))

    async def is_held() -> bool:
        return any(v.held == 1 for v in (await one.gateway.read()).versions)

    await auntil(is_held)
    backend = await one.backend("x")
    await one.gateway.apply([route()], [backend.server()])
    assert (await held)[0] == 200


async def test_the_door_is_found_again_after_a_restart_of_the_agent(
    one: Edge, client: aiohttp.ClientSession
) -> None:
    await one.gateway.apply([route()], [])
    for _ in range(2):
        async with WakeDoor(one.folder, Scheduler(), SystemClock()).listening():
            assert (await get(client, f"{one.url}{WAKE}"))[0] == 200
        assert (await get(client, f"{one.url}{WAKE}"))[0] == 503


async def test_more_streams_than_may_be_are_told_to_come_again(
    one: Edge, client: aiohttp.ClientSession, scheduler: Scheduler
) -> None:
    async def first(response: aiohttp.ClientResponse) -> bytes:
        return await response.content.readuntil(b"}\n\n")

    streams = [await client.get(f"{one.url}{WAKE}", headers=EVENTS) for _ in range(256)]
    try:
        await asyncio.gather(*map(first, streams))
        status, headers, body = await get(client, f"{one.url}{WAKE}")
        assert (status, json.loads(body)["error"]["code"]) == (503, "no_progress")
        assert headers["retry-after"] == "7"
    finally:
        scheduler.go_on.set()
        for response in streams:
            response.close()
