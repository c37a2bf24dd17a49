"""A gateway with a certificate: what clients and replicas see, and what a renewal does."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from serai.errors import ConfigError
from serai_agent.edge.tls import Certificate
from tests.integration.edge.asking import get
from tests.support.certificates import Authority
from tests.support.gateways import Edge, route
from tests.support.wait import auntil


@pytest.fixture
async def client(authority: Authority) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield one who believes the gateway's CA alone."""
    trusting = ssl.create_default_context(cafile=authority.issue("client").ca)
    connector = aiohttp.TCPConnector(ssl=trusting, limit=0)
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(20), connector=connector
    ) as session:
        yield session


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def certificate(authority: Authority, name: str) -> tuple[Certificate, str]:
    """Return a certificate, in a file whose name HAProxy could misread, and its text alone."""
    made = authority.issue(name, "DNS:localhost")
    pem = authority.folder / "it's $HOME.pem"
    pem.write_bytes(b"".join(Path(part).read_bytes() for part in (made.certificate, made.key)))
    return Certificate(str(pem), name), Path(made.certificate).read_text()


async def show(one: Edge, shown: Certificate) -> str:
    """Let the next agent of a gateway show another certificate; return the gateway's URL."""
    one.certificate = shown
    one.gateway.detach()
    await one.attach().start()
    return f"https://localhost:{one.port}"


async def shown_by(one: Edge, authority: Authority) -> str:
    """Return the certificate that the gateway shows, as PEM; it is verified, with its name."""
    trusting = ssl.create_default_context(cafile=authority.issue("client").ca)
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("localhost", one.port, ssl=trusting)
    try:
        found = writer.get_extra_info("ssl_object")
        assert found.selected_alpn_protocol() == "http/1.1"
        return ssl.DER_cert_to_PEM_cert(found.getpeercert(binary_form=True))
    finally:
        writer.close()


async def test_clients_are_answered_over_tls_alone(
    one: Edge, client: aiohttp.ClientSession, authority: Authority
) -> None:
    backend = await one.backend("x")
    url = await show(one, certificate(authority, "first")[0])
    await one.gateway.apply([route()], [backend.server()])
    status, _, body = await get(client, f"{url}/iris")
    headers = json.loads(body)["headers"]
    assert (status, headers["x-forwarded-proto"]) == (200, "https")
    assert headers["x-forwarded-for"] == "127.0.0.1"
    with pytest.raises(aiohttp.ClientError):
        await get(client, f"{one.url}/iris")
    assert len(backend.seen) == 1, "nothing goes on that came in the clear"


async def test_an_old_tls_is_refused(one: Edge, authority: Authority) -> None:
    await show(one, certificate(authority, "first")[0])
    old = ssl.create_default_context(cafile=authority.issue("client").ca)
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("localhost", one.port, ssl=old)


async def test_a_renewed_certificate_is_shown_after_one_reload_that_loses_nothing(
    one: Edge, client: aiohttp.ClientSession, authority: Authority
) -> None:
    backend = await one.backend("x")
    first, text = certificate(authority, "first")
    url = await show(one, first)
    asleep = route("asleep")
    await one.gateway.apply([route(), asleep], [backend.server()])
    assert await shown_by(one, authority) == text
    running = asyncio.create_task(get(client, f"{url}/iris/wait"))
    held = asyncio.create_task(get(client, f"{url}/asleep"))
    await auntil(lambda: len(backend.seen) == 1)
    second, text = certificate(authority, "second")
    await show(one, second)
    assert one.gateway.reloads == 1
    assert await shown_by(one, authority) == text
    backend.release.set()
    assert (await running)[0] == 200
    await one.gateway.apply([route(), asleep], [backend.server(), backend.server("asleep")])
    status, _, body = await get(client, f"{url}/asleep")
    assert (status, json.loads(body)["headers"]["x-forwarded-proto"]) == (200, "https")
    assert (await held)[0] == 200, "handed to the new process, though it came over TLS"
    await show(one, second)
    assert one.gateway.reloads == 0, "nothing has changed"


async def test_a_certificate_that_haproxy_does_not_take_leaves_the_gateway_as_it_was(
    one: Edge, client: aiohttp.ClientSession, authority: Authority
) -> None:
    url = await show(one, certificate(authority, "first")[0])
    with pytest.raises(ConfigError, match="HAProxy refuses its configuration"):
        await show(one, Certificate(str(authority.folder / "gone.pem"), "gone"))
    assert (await get(client, f"{url}/_serai/healthz"))[0] == 200
