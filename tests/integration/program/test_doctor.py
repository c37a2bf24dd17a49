"""What is found of a real cluster, and a scheduler that refuses to start on an old Nomad."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.operator import Verdict
from serai.report import NomadReading
from serai_agent.report.nomad import NomadProbe
from serai_scheduler.doctor import Program, Seen, examine, too_old
from serai_scheduler.nomad.client import NomadClient, NomadSettings
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.program.engine import EngineSide
from serai_scheduler.program.look import look
from serai_scheduler.program.main import BAD_CONFIG, main
from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad
from tests.support.ports import free_port
from tests.support.schedulers import simulated
from tests.support.wait import auntil


@pytest.fixture(scope="module")
def nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadAgent]:
    with own_nomad(tmp_path_factory.mktemp("nomad")) as agent:
        yield agent


async def seen_of(nomad_port: int, consul_port: int) -> Seen:
    client = NomadClient(NomadSettings(port=nomad_port))
    try:
        async with ConsulClient(ConsulSettings(port=consul_port)) as consul:
            return await look(client, consul)
    finally:
        await client.close()


@asynccontextmanager
async def probing(port: int) -> AsyncIterator[NomadProbe]:
    probe = NomadProbe(SystemClock(), f"http://127.0.0.1:{port}", "")
    running = asyncio.create_task(probe.run())
    try:
        yield probe
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.engines
async def test_the_versions_that_are_tested_with_are_found(nomad: NomadAgent) -> None:
    seen = await seen_of(nomad.port, nomad.beside.port)
    assert not seen.nomad_problem and not seen.consul_problem
    assert [one.version for one in seen.nomad_servers] == ["1.6.1"]
    (client,) = seen.nomad_clients
    assert client.version == "1.6.1" and client.drivers["raw_exec"]
    assert seen.consul_connections == 700
    assert too_old(seen) == ""
    found = examine(seen, (), JobSettings(), 600, 0.0)
    told = [(one.what, one.told) for one in found if one.verdict is Verdict.OK]
    assert ("nomad", f"Nomad 1.6.1 on {seen.nomad_servers[0].name}") in told
    assert ("consul", f"Consul 1.15.4 on {seen.consul[0].name}") in told
    assert not [one for one in found if one.verdict in (Verdict.FAIL, Verdict.UNTESTED)]


@pytest.mark.engines
async def test_a_node_tells_how_long_its_nomad_lets_replicas_end(nomad: NomadAgent) -> None:
    async with probing(nomad.port) as probe:
        await auntil(lambda: not probe.current().problem, 20.0)
        assert probe.current() == NomadReading(version="1.6.1", max_kill_timeout_s=3600.0)


async def test_an_answer_that_comes_in_pieces_is_read_whole() -> None:
    account = b'{"config": {"Client": {"Enabled": true, "MaxKillTimeout": "1h"}}}'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (account[:20], account[20:]):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await SystemClock().sleep(0.05)
        writer.write(b"0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, probing(server.sockets[0].getsockname()[1]) as probe:
        await auntil(lambda: probe.current().max_kill_timeout_s == 3600.0)


async def test_a_nomad_that_is_not_there_is_told() -> None:
    port = free_port()
    async with probing(port) as probe:
        await auntil(lambda: "cannot connect" in probe.current().problem, 20.0)
    seen = await seen_of(port, free_port())
    assert "does not answer" in seen.nomad_problem and "does not answer" in seen.consul_problem


def test_a_scheduler_does_not_start_on_a_nomad_that_is_too_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def old() -> Seen:
        return Seen(nomad_servers=(Program(name="s1.global", version="1.5.17"),))

    _, side = simulated()
    file = tmp_path / "scheduler.toml"
    file.write_text(
        f'data_dir = "{tmp_path}/data"\ngateway_url = "http://127.0.0.1:8080"\ninsecure = true\n'
        f"[listen]\nport = {free_port()}\n[consul]\nport = {free_port()}\n"
    )
    side = EngineSide(side.make, side.ask, old)
    assert main(["--config", str(file)], side) == BAD_CONFIG
    assert capsys.readouterr().err.endswith(
        "serai-scheduler: Nomad 1.5.17 on s1.global is older than 1.6.1, the oldest that Serai "
        "runs on: upgrade it\n"
    )
