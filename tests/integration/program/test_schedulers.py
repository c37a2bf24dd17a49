"""Where the agents' token goes, and from whom blobs come."""

import ssl
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from serai import wire
from serai.errors import Refused, SeraiError, Unavailable
from serai.http import PROBLEM_TYPE
from serai.operator import Problem
from serai.waking import WakePhase, WakeProgress
from serai_agent.program.schedulers import Schedulers
from tests.integration.cli.servers import CERTIFICATE, sending, server
from tests.integration.project.serving import serving
from tests.support.ports import free_port

TRUSTING = ssl.create_default_context(cafile=CERTIFICATE)


def schedulers(
    leader: str, *others: str, tls: ssl.SSLContext = TRUSTING, insecure: bool = False
) -> Schedulers:
    return Schedulers(lambda: leader, others, "agent-token", tls, insecure)


async def fetched(one: Schedulers, digest: str = "0" * 64) -> bytes:
    async with one:
        return b"".join([chunk async for chunk in one.get(digest)])


async def test_blobs_come_over_tls_from_whom_the_certificates_name() -> None:
    with server(sending(b"content"), secure=True) as url:
        assert await fetched(schedulers(url)) == b"content"
        strange = ssl.create_default_context()
        with pytest.raises(Unavailable, match="its certificate cannot be verified"):
            await fetched(schedulers(url, tls=strange))


async def test_another_scheduler_gives_what_the_leader_cannot(tmp_path: Path) -> None:
    async with serving(tmp_path) as there:
        with server(sending(b"content")) as good:
            away = f"http://127.0.0.1:{free_port()}"
            for leader in ("", away, there.url):
                assert await fetched(schedulers(leader, good)) == b"content"
            with pytest.raises(SeraiError, match="0" * 64):
                await fetched(schedulers(away, there.url))


async def test_an_answer_that_breaks_off_is_not_taken_for_whole() -> None:
    with (
        server(sending(b"half", length=8)) as broken,
        server(sending(b"content")) as good,
        pytest.raises(Unavailable),
    ):
        await fetched(schedulers(broken, good))


async def test_the_token_goes_nowhere_without_tls() -> None:
    one = schedulers("http://scheduler.example:7070")
    with pytest.raises(Refused, match="is not https"):
        one.leader_url()
    with pytest.raises(Refused, match="is not https"):
        await fetched(one)
    with pytest.raises(Unavailable, match="no scheduler is known"):
        schedulers("").leader_url()
    told = schedulers("http://scheduler.example:7070/", insecure=True).leader_url()
    assert told == "http://scheduler.example:7070"


ASKED = WakeProgress(api="iris", phase=WakePhase.ASKED, eta_s=3.0)
READY = WakeProgress(api="iris", phase=WakePhase.READY)


async def test_apis_are_woken_at_the_leader_with_the_agents_token() -> None:
    seen: list[tuple[str, str, str | None]] = []

    def answering(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.command, handler.path, handler.headers.get("Authorization")))
        sending(b"\n".join(map(wire.encode, (ASKED, READY))) + b"\n")(handler)

    with server(answering) as url:
        async with schedulers(url, "http://localhost:1") as one:
            await one.wake("iris")
            assert [now async for now in one.looks("iris")] == [ASKED, READY]
    wake = ("/v1/apis/iris/wake", "Bearer agent-token")
    assert seen == [("POST", *wake), ("GET", *wake)]


async def test_why_an_api_is_not_woken_is_kept() -> None:
    body = Problem(status=409, code="not_woken", title="Conflict", detail="set to 0")

    def refusing(handler: BaseHTTPRequestHandler) -> None:
        sending(wire.encode(body), status=409, kind=PROBLEM_TYPE)(handler)

    with server(refusing) as url:
        async with schedulers(url) as one:
            with pytest.raises(Refused, match="set to 0") as refused:
                await one.wake("iris")
            assert refused.value.code == "not_woken"


async def test_a_leader_that_is_away_or_talks_nonsense_is_unavailable() -> None:
    with server(sending(b'{"phase": 7}\n')) as nonsense:
        for url in (nonsense, f"http://127.0.0.1:{free_port()}", ""):
            async with schedulers(url) as one:
                with pytest.raises(Unavailable):
                    await anext(one.looks("iris"))
