"""What happens to calls for Nomad when something else answers, or the settings are wrong."""

from pathlib import Path

import pytest

from serai.errors import ConfigError, Unavailable
from serai_scheduler.nomad.client import NomadClient, NomadSettings
from tests.integration.cli.servers import sending, server
from tests.support.wrong_server import wrong_server


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b"", b"7"])
@pytest.mark.parametrize("status", [200, 307])
async def test_another_server_in_nomads_place_is_unavailable(body: bytes, status: int) -> None:
    async with wrong_server(body, "X-Nomad-Index: many", status) as server:
        client = NomadClient(NomadSettings(port=server.port))
        for call in (client.jobs("a"), client.job("a"), client.nodes(), client.register({}, 0)):
            with pytest.raises(Unavailable, match="is no Nomad"):
                await call
        await client.close()


async def test_variables_of_the_environment_count_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NOMAD_REGION", "NOMAD_NAMESPACE", "NOMAD_TOKEN", "NOMAD_ADDR", "HTTP_PROXY"):
        monkeypatch.setenv(name, "of-the-environment")
    for name in ("NOMAD_CLIENT_CERT", "NOMAD_CLIENT_KEY"):
        monkeypatch.setenv(name, "/no/such/file")
    async with wrong_server(b"[]", "X-Nomad-Index: 7") as server:
        client = NomadClient(NomadSettings(port=server.port))
        assert (await client.jobs("a")).index == 7
        await client.close()
    assert len(server.heads) == 1 and "of-the-environment" not in server.heads[0]


async def test_a_certificate_of_another_ca_is_told_with_what_to_do() -> None:
    with server(sending(b"[]"), secure=True) as url:
        port = int(url.rpartition(":")[2])
        client = NomadClient(NomadSettings(host="localhost", port=port, tls=True))
        with pytest.raises(Unavailable, match=r"cannot be verified \(self-signed.*`nomad.ca`"):
            await client.nodes()
        await client.close()
    with server(sending(b"[]")) as url:
        client = NomadClient(NomadSettings(port=int(url.rpartition(":")[2]), tls=True))
        with pytest.raises(Unavailable, match="it does not speak TLS at this port"):
            await client.nodes()
        await client.close()


async def test_settings_that_no_call_can_be_made_with_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token"):
        NomadClient(NomadSettings(token="secret\n"))
    with pytest.raises(ConfigError, match="certificates"):
        NomadClient(NomadSettings(tls=True, ca=str(tmp_path / "none.pem")))
