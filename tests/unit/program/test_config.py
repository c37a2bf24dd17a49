"""The agent's configuration: the example is one, and what is wrong is one clear line."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from serai.consul.gateways import DEFINITION_META, definition_of, names_of
from serai.errors import ConfigError
from serai_agent.program.config import (
    AgentConfig,
    GatewayTable,
    gateway_certificate,
    gateway_service,
    listen_tls,
    load_agent_config,
    nomad_tls,
    read_secrets,
    scheduler_tls,
)
from tests.support.certificates import Authority
from tests.support.examples import unsaid

EXAMPLE = Path(__file__).parents[3] / "agent" / "agent.example.toml"


def test_the_example_is_a_configuration() -> None:
    config = load_agent_config(EXAMPLE)
    assert config.node, "the host's name"
    told = msgspec.structs.replace(config, node="")
    scheduler = msgspec.structs.replace(told.scheduler, token_file="")
    gateway = msgspec.structs.replace(told.gateway, host="127.0.0.1", certificate="")
    assert msgspec.structs.replace(told, scheduler=scheduler, gateway=gateway) == AgentConfig()


def test_the_example_has_every_key() -> None:
    assert unsaid(EXAMPLE, AgentConfig) == set()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nod = 'a'", "nod: unknown key; did you mean `node`?"),
        ("node = 'a b'", "node: 'a b' is no name of a node"),
        ("roles = []", "roles: name each role once"),
        ("roles = ['gateway', 'gateway']", "roles: name each role once"),
        ("roles = ['scheduler']", "roles[0]: invalid enum value"),
        ("data_dir = 'var'", "data_dir: var is not absolute"),
        ("prefix = 'serai'", 'has to end with "/"'),
        ("[gateway]\nport = 70000", "gateway.port: expected `int` <= 65535"),
        ("[listen]\nhost = '0.0.0.0'", "listen: 0.0.0.0 is reached from elsewhere"),
        ("[listen]\nhost = ''", "listen: every address is reached from elsewhere"),
        ("[listen]\ncertificate = 'a.pem'", "listen: certificate and key belong together"),
        (
            "[listen]\nhost = '10.0.0.1'\ncertificate = 'a'\nkey = 'b'",
            "needs certificate, key and token_file",
        ),
        ("[gateway]\nhost = '0.0.0.0'", "gateway: 0.0.0.0 is reached from elsewhere"),
        ("[gateway]\nhost = ''", "gateway: every address is reached from elsewhere"),
        ("[gateway]\nhost = 'gateway-1'", "which needs certificate, a PEM file with"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_agent_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


def test_beyond_loopback_it_may_listen_insecurely_if_told_so(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("insecure = true\n[listen]\nhost = '0.0.0.0'")
    assert load_agent_config(path).insecure


@pytest.mark.parametrize(
    "text",
    [
        "insecure = true\n[gateway]\nhost = '0.0.0.0'",
        "[gateway]\nhost = '0.0.0.0'\ncertificate = '/etc/serai/gateway.pem'",
        "roles = ['replicas']\n[gateway]\nhost = '0.0.0.0'",
        "[gateway]\nhost = '::1'",
    ],
)
def test_a_gateway_listens_beyond_loopback_with_tls_or_if_told_so(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    assert load_agent_config(path).gateway.host


def test_a_certificate_of_the_gateway_that_is_none_is_told(tmp_path: Path) -> None:
    made = Authority(tmp_path / "ca").issue("gateway")
    certificate, key = Path(made.certificate).read_text(), Path(made.key).read_text()
    pem = tmp_path / "gateway.pem"
    config = AgentConfig(gateway=GatewayTable(certificate=str(pem)))
    why = "it has to hold, in PEM, the certificate, those of its chain, and the key"
    for text, told in ((None, "No such file"), ("", why), (certificate, why), (key, why)):
        if text is not None:
            pem.write_text(text)
        with pytest.raises(ConfigError, match=told) as caught:
            gateway_certificate(config)
        assert str(caught.value).startswith(f"gateway.certificate: cannot use {pem}: ")
    pem.write_text(key + certificate)
    first = gateway_certificate(config)
    assert first is not None and first.path == str(pem)
    pem.write_text(certificate + key)
    second = gateway_certificate(config)
    assert second is not None and second.mark != first.mark, "another file, as after a renewal"
    assert gateway_certificate(AgentConfig()) is None


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    missing = tmp_path / "missing"
    path.write_text(
        f"[scheduler]\ntoken_file = '{missing}'\nca = '{missing}'\n"
        f"[nomad]\ncertificate = '{missing}'\nkey = '{missing}'\n"
        f"[listen]\ncertificate = '{missing}'\nkey = '{missing}'"
    )
    config = load_agent_config(path)
    for read, what in (
        (read_secrets, "the agents' token"),
        (scheduler_tls, "scheduler.ca"),
        (nomad_tls, "nomad.certificate: cannot use"),
        (listen_tls, "listen.certificate: cannot use"),
    ):
        with pytest.raises(ConfigError, match=what):
            read(config)


@pytest.mark.parametrize(
    ("gateway", "address", "port", "check"),
    [
        (GatewayTable(), "127.0.0.1", 8080, "http://127.0.0.1:8080/_serai/healthz"),
        (GatewayTable(host="0.0.0.0"), "", 8080, "http://127.0.0.1:8080/_serai/healthz"),
        (GatewayTable(host="::", port=80), "", 80, "http://[::1]:80/_serai/healthz"),
        (
            GatewayTable(host="10.0.0.7", advertise="198.51.100.4", advertise_port=443),
            "198.51.100.4",
            443,
            "http://10.0.0.7:8080/_serai/healthz",
        ),
        (
            GatewayTable(host="0.0.0.0", certificate="/g.pem"),
            "",
            8080,
            "https://127.0.0.1:8080/_serai/healthz",
        ),
    ],
)
def test_a_gateway_is_registered_as_clients_reach_it(
    gateway: GatewayTable, address: str, port: int, check: str
) -> None:
    service = gateway_service(AgentConfig(node="one", gateway=gateway), "1.0")
    assert (service.address, service.port, service.check_url) == (address, port, check)
    # The certificate names what clients call, and need not name 127.0.0.1.
    skips = definition_of(service)["Check"].get("TLSSkipVerify", False)
    assert skips == check.startswith("https:")


def test_a_changed_check_is_another_definition() -> None:
    service = gateway_service(AgentConfig(node="one"), "1.0")
    one = definition_of(service)
    other = definition_of(msgspec.structs.replace(service, check_period_s=2.0))
    assert one["Meta"][DEFINITION_META] != other["Meta"][DEFINITION_META]
    assert one == definition_of(service)


def test_names_of_gateways_are_read_and_others_left_out() -> None:
    instances: list[dict[str, Any]] = [
        {"Service": {"Meta": {"gateway": "b"}}},
        {"Service": {"Meta": None}},
        {"Service": None},
        {"Service": {"Meta": {"gateway": "a"}}},
    ]
    assert names_of(instances) == ("a", "b")
