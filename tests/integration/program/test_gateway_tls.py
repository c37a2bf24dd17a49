"""A real agent whose gateway is reached from elsewhere: with TLS, or not at all unless told so."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.agents import ConsulAgent
from tests.cluster.serai_agents import Orders, SeraiAgent
from tests.integration.edge.asking import get
from tests.support.certificates import Authority
from tests.support.gateways import Backend, route
from tests.support.ports import free_port
from tests.support.wait import auntil

pytestmark = pytest.mark.engines


def beyond_loopback(folder: Path, consul_port: int, certificate: str) -> SeraiAgent:
    """Return an agent whose gateway listens on every address."""
    agent = SeraiAgent(folder, consul_port)
    config = folder / "agent.toml"
    more = f'[gateway]\nhost = "0.0.0.0"\ncertificate = "{certificate}"'
    config.write_text(config.read_text().replace("[gateway]", more))
    return agent


async def test_a_gateway_with_a_certificate_answers_passes_its_check_and_takes_a_renewed_one(
    consul_agent: ConsulAgent, tmp_path: Path, backend: Backend
) -> None:
    authority = Authority(tmp_path / "ca")
    pem = tmp_path / "gateway.pem"

    def renew(name: str) -> str:
        made = authority.issue(name, "DNS:localhost")
        pem.write_bytes(b"".join(Path(f).read_bytes() for f in (made.key, made.certificate)))
        return Path(made.certificate).read_text()

    def shown() -> str:
        return ssl.get_server_certificate(("localhost", agent.gateway))

    first = renew("first")
    agent = beyond_loopback(tmp_path / "tls", consul_agent.port, str(pem))
    trusting = ssl.create_default_context(cafile=authority.issue("client").ca)
    try:
        agent.start()
        async with (
            Orders(consul_agent.port) as orders,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as client,
        ):
            await orders.order(route(epoch=orders.epoch))
            await orders.register(backend.server())
            await auntil(agent.ready, 20.0, agent.log)
            assert (await get(client, f"https://localhost:{agent.gateway}/iris"))[0] == 200

            async def passes() -> bool:
                return (await orders.checks()).get("tls") == "passing"

            await auntil(passes, what="Consul asks HAProxy over TLS")
            assert await asyncio.to_thread(shown) == first
            second, pid = renew("second"), agent.haproxy()
            agent.kill()
            await asyncio.to_thread(agent.start)
            await auntil(agent.ready, 20.0, agent.log)
            assert await asyncio.to_thread(shown) == second
            assert agent.haproxy() == pid, "one reload, and no other HAProxy"
            await orders.delete("iris")
            await orders.deregister(backend.server())
    finally:
        agent.stop()


@pytest.mark.parametrize("own_unit", [False, True])
def test_what_keeps_a_gateway_from_listening_is_one_line(tmp_path: Path, own_unit: bool) -> None:
    nowhere = tmp_path / "gateway.pem"
    for certificate, told in (
        ("", "gateway: 0.0.0.0 is reached from elsewhere, which needs certificate"),
        (str(nowhere), f"gateway.certificate: cannot use {nowhere}: No such file or directory"),
    ):
        agent = beyond_loopback(tmp_path / "refused", free_port(), certificate)
        config = tmp_path / "refused" / "agent.toml"
        if own_unit:
            config.write_text(config.read_text().replace("[gateway]", "[gateway]\nstart = false"))
        command = [*agent.command, *(["--gateway"] if own_unit else [])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2
        assert [told in line for line in done.stderr.splitlines()] == [True], done.stderr
