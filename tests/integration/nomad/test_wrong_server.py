"""What happens to calls for Nomad when something else answers, or the settings are wrong."""

from pathlib import Path

import pytest

from serai.errors import ConfigError, Unavailable
from serai_scheduler.nomad.client import NomadClient, NomadSettings
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


async def test_settings_that_no_call_can_be_made_with_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token"):
        NomadClient(NomadSettings(token="secret\n"))
    with pytest.raises(ConfigError, match="certificates"):
        NomadClient(NomadSettings(tls=True, ca=str(tmp_path / "none.pem")))
