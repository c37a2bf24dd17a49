"""What happens to calls for Consul when something else answers, or the settings are wrong."""

import asyncio

import pytest

from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.lease import ConsulLease
from serai.consul.registry import ConsulRegistry
from serai.consul.store import ConsulStore
from serai.errors import ConfigError, Unavailable
from serai.lease import LeaseSettings
from serai.store import Write
from tests.integration.cli.servers import sending, server
from tests.support.wait import auntil
from tests.support.wrong_server import wrong_server

ANSWERS = [
    (b"<html>", "X-Consul-Index: 5"),
    (b"[]", "X-Consul-Index: many"),
    (b"\xff\xfe", "X-Consul-Index: 5"),
    (b"", "X-Other: 1"),
]


@pytest.mark.parametrize(("body", "header"), ANSWERS)
async def test_another_server_in_consuls_place_is_unavailable(body: bytes, header: str) -> None:
    async with (
        wrong_server(body, header) as server,
        ConsulClient(ConsulSettings(port=server.port)) as client,
    ):
        store = ConsulStore(client, SystemClock())
        with pytest.raises(Unavailable, match="Consul"):
            await store.get("a")
        with pytest.raises(Unavailable, match="Consul"):
            await store.commit([Write(key="a", value=b"1")], 0)
        with pytest.raises(Unavailable, match="Consul"):
            await ConsulLease(client, SystemClock(), "k", "test", LeaseSettings()).acquire(0)
        running = asyncio.create_task(ConsulRegistry(client, SystemClock()).run())
        before = len(server.heads)
        await auntil(lambda: len(server.heads) > before + 1 or running.done())
        assert not running.done(), "the registry asks again"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_certificate_of_another_ca_is_told_with_what_to_do() -> None:
    with server(sending(b"[]"), secure=True) as url:
        settings = ConsulSettings(host="localhost", port=int(url.rpartition(":")[2]), tls=True)
        async with ConsulClient(settings) as client:
            with pytest.raises(Unavailable, match=r"cannot be verified \(self-signed.*`consul.ca`"):
                await client.get("/v1/kv/a")


@pytest.mark.parametrize("token", ["secret\n", "se\r\nX-Other: cret", "secrét"])
async def test_a_token_that_no_header_can_hold_is_told_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ConsulClient(ConsulSettings(token=token))
    assert token not in str(caught.value)
