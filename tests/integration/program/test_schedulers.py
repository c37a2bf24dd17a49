"""Where the agents' token goes, and from whom blobs come."""

import ssl
from pathlib import Path

import pytest

from serai.errors import Refused, SeraiError, Unavailable
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
