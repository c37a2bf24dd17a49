"""`serai-scheduler` as a process: killed, paused, told to end, wrongly configured, with TLS."""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from serai.clock import SystemClock
from serai.model import digest_of
from tests.cluster.agents import ConsulAgent
from tests.support.ports import free_port
from tests.support.schedulers import (
    ADMIN,
    AGENT,
    LONG_LEASE,
    SHORT_LEASE,
    SchedulerProcess,
    address_in,
    running,
    simulated,
    write_config,
)
from tests.support.scheduling import request, spec
from tests.support.wait import auntil

pytestmark = pytest.mark.engines

TTL_S = 2.0
START_LIMIT_S = 20.0


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as found:
        yield found


@contextmanager
def processes(
    folder: Path, port: int, session: aiohttp.ClientSession, more: str = ""
) -> Iterator[tuple[SchedulerProcess, SchedulerProcess]]:
    """Make two processes of one cluster, not started; the end of the block stops them."""
    with several(2, folder, port, session, more) as (first, second):
        yield first, second


@contextmanager
def several(
    count: int, folder: Path, port: int, session: aiohttp.ClientSession, more: str = ""
) -> Iterator[list[SchedulerProcess]]:
    prefix = f"{uuid.uuid4()}/"
    configs = [write_config(folder / str(number), port, prefix, more) for number in range(count)]
    found = [SchedulerProcess(path, session) for path in configs]
    try:
        yield found
    finally:
        for one in found:
            one.stop()


async def started(*found: SchedulerProcess) -> None:
    """Start them, so that the first one leads."""
    for one in found:
        one.start()
        await auntil(one.answers, START_LIMIT_S, f"not up: {one.log()}")
    assert await found[0].caller.leads()


async def test_the_next_one_leads_when_the_leader_is_killed(
    consul_agent: ConsulAgent, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with processes(tmp_path, consul_agent.port, session, SHORT_LEASE) as (first, second):
        await started(first, second)
        deployed = request(spec("iris"), bundle="")
        assert (await second.caller.call("POST", "/v1/deploy", deployed)).status == 200
        first.kill()
        read = await second.caller.call("GET", "/v1/apis")
        assert [api["name"] for api in read.body["apis"]] == ["iris"]
        await auntil(second.caller.leads, 2 * TTL_S + 3.0)

        async def live() -> bool:
            found = await second.caller.call("GET", "/v1/apis/iris")
            status = found.body["status"]  # no gateway is here to take its route
            return bool(status["version"] and status["ready"] == status["wanted"])

        await auntil(live)


async def test_of_three_one_leads_whoever_is_killed(
    consul_agent: ConsulAgent, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with several(3, tmp_path, consul_agent.port, session, SHORT_LEASE) as found:
        await started(*found)
        left, epochs = list(found), []
        while len(left) > 1:
            leader = await auntil(partial(the_leader, left), 2 * TTL_S + 3.0)
            told = [await one.caller.call("GET", "/v1/info") for one in left]
            assert {answer.status for answer in told} == {200}
            epochs.append({answer.body["epoch"] for answer in told})
            leader.kill()
            left = [one for one in left if one is not leader]
        await auntil(left[0].caller.leads, 2 * TTL_S + 3.0)
        assert epochs == [{1}, {2}], "all answer as one"


async def the_leader(found: list[SchedulerProcess]) -> SchedulerProcess | None:
    """Return who leads once all know it."""
    leading = [one for one in found if await one.caller.leads()]
    known = [(await one.caller.call("GET", "/v1/info")).status == 200 for one in found]
    return leading[0] if len(leading) == 1 and all(known) else None


async def test_a_leader_that_stood_still_leads_no_more(
    consul_agent: ConsulAgent, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with processes(tmp_path, consul_agent.port, session, SHORT_LEASE) as (first, second):
        await started(first, second)
        first.pause()
        began_s = SystemClock().now()
        asked = [
            asyncio.create_task(second.caller.call("GET", "/v1/apis")),
            asyncio.create_task(second.caller.call("DELETE", "/v1/apis/iris")),
        ]
        await auntil(second.caller.leads, 2 * TTL_S + 3.0)
        read, write = await asyncio.gather(*asked)
        assert read.status == 200
        assert (write.status, write.code) == (503, "unavailable"), "it may have been done"
        assert SystemClock().now() - began_s < 15.0
        assert (await second.caller.call("GET", "/v1/info")).body["epoch"] == 2
        first.resume()
        deployed = request(spec("iris"), bundle="")
        told = await first.caller.call("POST", "/v1/deploy", deployed)
        assert told.status in (200, 503), "it passes it on, or does not know yet"
        assert not await first.caller.leads()

        async def passes_on() -> bool:
            found = await first.caller.call("GET", "/v1/info")
            return found.status == 200 and found.body["epoch"] == 2

        await auntil(passes_on, 10.0)


async def test_told_to_end_it_gives_the_lead_back_and_finishes_what_it_began(
    consul_agent: ConsulAgent, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    content = b"x" * 200_000
    upload = Upload(content[:100_000], content[100_000:])
    with processes(tmp_path, consul_agent.port, session, LONG_LEASE) as (first, second):
        await started(first, second)
        assert first.process is not None
        sending = asyncio.create_task(upload.send(session, first))
        await upload.begun.wait()
        first.process.send_signal(signal.SIGTERM)
        await auntil(second.caller.leads, 5.0)  # long before the lease would have ended
        assert first.process.poll() is None and not sending.done()
        upload.go_on.set()
        assert await sending == 204
        assert await asyncio.to_thread(first.process.wait, 10) == 0
        assert '"event":"ending"' in first.log()


class Upload:
    """A blob that is sent in two pieces, the second once `go_on` is set."""

    def __init__(self, *pieces: bytes) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        self._pieces = pieces

    async def _body(self) -> AsyncIterator[bytes]:
        self.begun.set()  # the other side said that it waits for it
        yield self._pieces[0]
        await self.go_on.wait()
        yield self._pieces[1]

    async def send(self, session: aiohttp.ClientSession, one: SchedulerProcess) -> int:
        content = b"".join(self._pieces)
        async with session.put(
            f"{one.caller.url}/v1/blobs/{digest_of(content)}",
            data=self._body(),
            headers={"Authorization": f"Bearer {ADMIN}", "Content-Length": str(len(content))},
            expect100=True,
        ) as response:
            return response.status


async def test_a_second_signal_ends_it_at_once(
    consul_agent: ConsulAgent, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    upload = Upload(b"one", b"two")
    with processes(tmp_path, consul_agent.port, session) as (first, _):
        await started(first)
        assert first.process is not None
        sending = asyncio.create_task(upload.send(session, first))
        await upload.begun.wait()
        first.process.send_signal(signal.SIGTERM)
        await auntil(lambda: '"event":"ending"' in first.log())
        first.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(first.process.wait, 5) == 130
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


# TLS ----------------------------------------------------------------------------------------------


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that vouches for itself; return it and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    made, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=scheduler"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(made), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    return made, key


async def test_everything_goes_over_tls(consul_agent: ConsulAgent, tmp_path: Path) -> None:
    made, key = certificate(tmp_path / "tls")
    stranger, _ = certificate(tmp_path / "other")
    prefix, (_, side) = f"{uuid.uuid4()}/", simulated()
    ports = {name: free_port() for name in "abc"}
    peers = json.dumps([f"https://127.0.0.1:{port}" for port in ports.values()])
    configs = []
    for name, ca in (("a", made), ("b", made), ("c", stranger)):
        listen = f'[listen]\nport = {ports[name]}\ncertificate = "{made}"\nkey = "{key}"\n'
        top = {"peers_ca": f'"{ca}"', "peers": peers}
        configs.append(write_config(tmp_path / name, consul_agent.port, prefix, listen, **top))
    trust = ssl.create_default_context(cafile=str(made))
    async with running(configs[:2], side, trust) as (first, second):
        assert await first.leads() and first.url.startswith("https://")
        deployed = request(spec("iris"), bundle="")
        assert (await second.call("POST", "/v1/deploy", deployed)).status == 200
        assert (await second.call("GET", "/v1/apis", token=AGENT)).status == 403
        blob = f"/v1/blobs/{digest_of(b'content')}"
        assert (await first.call("PUT", blob, b"content")).status == 204, "also held by the second"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            second.trust = True
            await second.call("GET", "/v1/info")
        with pytest.raises(aiohttp.ClientError):
            plain = second.url.replace("https:", "http:")
            await second.session.get(plain + "/healthz")
        async with running(configs[2:], side, trust, lead=False) as (third,):
            told = await third.call("POST", "/v1/deploy", deployed)
            assert (told.status, told.code) == (503, "no_leader")
            assert "certificate" in told.body["detail"]
            told = await third.call("GET", blob, token=AGENT)
            assert told.status == 503 and "certificate" in told.body["detail"]


# Wrong configurations -----------------------------------------------------------------------------


def run(config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serai_scheduler", "--config", str(config), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_a_configuration_can_be_tried(tmp_path: Path) -> None:
    good = write_config(tmp_path / "a", 1, "serai/")
    tried = run(good, "--check")
    assert (tried.returncode, tried.stderr) == (0, "")
    good.write_text(good.read_text().replace("port =", "prot =", 1))
    tried = run(good, "--check")
    assert tried.returncode == 2 and tried.stderr.count("\n") == 1
    assert f"{good}: consul.prot: unknown key; did you mean `port`?" in tried.stderr
    missing = run(tmp_path / "none.toml")
    assert missing.returncode == 2 and "No such file" in missing.stderr


async def test_what_is_taken_is_told_in_one_line(
    consul_agent: ConsulAgent, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    prefix = f"{uuid.uuid4()}/"
    config = write_config(tmp_path / "a", consul_agent.port, prefix)
    one = SchedulerProcess(config, session)
    try:
        await started(one)
        same_folder = await asyncio.to_thread(run_as_simulated, config)
        assert same_folder.returncode == 2
        assert "another scheduler holds" in same_folder.stderr.splitlines()[-1]
        port = address_in(config).rpartition(":")[2]
        other = write_config(tmp_path / "b", consul_agent.port, prefix, f"[listen]\nport={port}\n")
        same_port = await asyncio.to_thread(run_as_simulated, other)
        assert same_port.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}" in same_port.stderr.splitlines()[-1]
        data = tmp_path / "file"
        data.write_text("")
        third = write_config(tmp_path / "c", consul_agent.port, prefix, data_dir=f'"{data}"')
        no_folder = await asyncio.to_thread(run_as_simulated, third)
        assert no_folder.returncode == 2 and str(data) in no_folder.stderr
    finally:
        one.stop()


def run_as_simulated(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.scheduler_process", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)
