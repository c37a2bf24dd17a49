"""What an operator tells the agent of a node: one TOML file, `agent/agent.example.toml` is one."""

import hashlib
import re
import socket
import ssl
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from serai.config import load_config, read_secret
from serai.consul.client import CONNECTIONS, ConsulSettings
from serai.consul.gateways import GatewayService
from serai.errors import ConfigError
from serai.http import check_token
from serai.listening import ANYWHERE, is_loopback, url_here
from serai.model import Value
from serai.trust import check_pem, client_tls, server_tls
from serai_agent.cache.settings import CacheSettings
from serai_agent.edge.config import HEALTH_PATH
from serai_agent.edge.tls import Certificate

REPLICAS: Final = "replicas"
GATEWAY: Final = "gateway"  # serai.report.GATEWAY_ROLE, as a type
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

Role = Literal["replicas", "gateway"]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class ConsulTable(Value):
    """The Consul agent of this node; `ca` is a file of certificates, "" for the system's.

    `certificate` and `key` are shown where Consul asks for them (`verify_incoming`), "" for none.
    A gateway needs a connection for each API, and some: Consul's limits.http_max_conns_per_client
    has to allow `connections`.
    """

    host: str = "127.0.0.1"
    port: Port = 8500
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    token_file: str = ""
    connections: Annotated[int, Meta(ge=10, le=10_000)] = CONNECTIONS


class SchedulerTable(Value):
    """How schedulers are called.

    The leader's address is in Consul; `addresses` are others that bundles may be fetched from.
    """

    token_file: str = ""
    ca: str = ""
    addresses: tuple[str, ...] = ()


class ListenTable(Value):
    """Where `/healthz`, `/readyz` and `/metrics` are; beyond loopback with all three files only."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 7072
    certificate: str = ""
    key: str = ""
    token_file: str = ""


class GatewayTable(Value):
    """HAProxy on this node; with `start` false a job or unit of its own (`--gateway`) runs it.

    `advertise` and `advertise_port` are how clients reach it, where that is another address than
    `host` (or, for a host that stands for all addresses, than the Consul node's) and `port`.
    `certificate` is one PEM file with certificate, chain and key: TLS for all who call APIs. A
    drain tells Consul, waits `notice_s` until clients have heard of it, then at most
    `drain_limit_s` for what is in flight.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    advertise: str = ""
    advertise_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    certificate: str = ""
    program: str = ""
    start: bool = True
    check_period_s: Annotated[float, Meta(ge=0.1, le=60)] = 1.0
    notice_s: Seconds = 5.0
    drain_limit_s: Seconds = 600.0


class NomadTable(Value):
    """The Nomad client of this node, "" as `address` for none; only its own settings are asked.

    `certificate` and `key` are shown where it asks for them (`verify_https_client`), "" for none.
    """

    address: str = "http://127.0.0.1:4646"
    ca: str = ""
    certificate: str = ""
    key: str = ""
    token_file: str = ""


class AgentConfig(Value):
    """The whole file. `node` is this node's name, "" for the host's; `prefix` begins Consul's keys.

    `insecure` allows to listen beyond this machine, and to send secrets, without TLS.
    """

    node: str = ""
    roles: tuple[Role, ...] = (REPLICAS, GATEWAY)
    data_dir: str = "/var/lib/serai"
    prefix: str = "serai/"
    insecure: bool = False
    consul: ConsulTable = ConsulTable()
    nomad: NomadTable = NomadTable()
    scheduler: SchedulerTable = SchedulerTable()
    listen: ListenTable = ListenTable()
    gateway: GatewayTable = GatewayTable()
    cache: CacheSettings = CacheSettings()


class Secrets(Value):
    """What the files named in the configuration hold."""

    agent_token: str
    listen_token: str
    nomad_token: str
    consul: ConsulSettings


def load_agent_config(path: Path) -> AgentConfig:
    """Read and check a configuration; ConfigError names file and key of the first problem."""
    config = load_config(path, AgentConfig)
    name = config.node or socket.gethostname()
    config = msgspec.structs.replace(config, node=name, data_dir=str(Path(config.data_dir)))
    problem = problem_of(config)
    if problem:
        raise ConfigError(f"{path}: {problem}")
    return config


def problem_of(config: AgentConfig) -> str:
    """Say in words what no single key shows; "" for nothing. Pure."""
    if not NAME.fullmatch(config.node):
        return (
            f"node: {config.node!r} is no name of a node; take at most 63 letters, digits, "
            "dots, hyphens and underscores"
        )
    if not config.roles or len(set(config.roles)) < len(config.roles):
        return 'roles: name each role once, at least one of "replicas" and "gateway"'
    if not Path(config.data_dir).is_absolute():
        return f"data_dir: {config.data_dir} is not absolute, and jobs name folders below it"
    if not config.prefix.endswith("/") or config.prefix.startswith("/"):
        return f'prefix: {config.prefix!r} has to end with "/" and not to begin with it'
    if config.nomad.address and not config.nomad.address.startswith(("http://", "https://")):
        return f"nomad.address: {config.nomad.address!r} is no URL such as http://127.0.0.1:4646"
    return _listen_problem(config) or _gateway_problem(config)


def _listen_problem(config: AgentConfig) -> str:
    listen = config.listen
    if bool(listen.certificate) != bool(listen.key):
        return "listen: certificate and key belong together"
    guarded = listen.certificate and listen.token_file
    if not guarded and not config.insecure and not is_loopback(listen.host):
        return (
            f"listen: {listen.host or 'every address'} is reached from elsewhere, which needs "
            "certificate, key and token_file; or listen on 127.0.0.1, or set insecure = true"
        )
    return ""


def _gateway_problem(config: AgentConfig) -> str:
    gateway = config.gateway
    exposed = GATEWAY in config.roles and not is_loopback(gateway.host)
    if exposed and not gateway.certificate and not config.insecure:
        return (
            f"gateway: {gateway.host or 'every address'} is reached from elsewhere, which needs "
            "certificate, a PEM file with certificate, chain and key; or listen on 127.0.0.1, or "
            "set insecure = true where nobody else is on the network"
        )
    return ""


def read_secrets(config: AgentConfig) -> Secrets:
    """Read the files with tokens; ConfigError says which cannot be used."""
    consul = config.consul
    agent_token = read_secret(config.scheduler.token_file, "the agents' token")
    check_token(agent_token, "the scheduler")
    return Secrets(
        agent_token=agent_token,
        listen_token=read_secret(config.listen.token_file, "the token for /metrics"),
        nomad_token=read_secret(config.nomad.token_file, "Nomad's token"),
        consul=ConsulSettings(
            host=consul.host,
            port=consul.port,
            tls=consul.tls,
            ca=consul.ca,
            certificate=consul.certificate,
            key=consul.key,
            token=read_secret(consul.token_file, "Consul's token"),
            connections=consul.connections,
        ),
    )


def scheduler_tls(config: AgentConfig) -> ssl.SSLContext:
    """Return what schedulers are verified by; ConfigError for certificates that are none."""
    return client_tls("scheduler", config.scheduler.ca)


def nomad_tls(config: AgentConfig) -> ssl.SSLContext:
    """Return what Nomad is verified by; ConfigError for certificates that are none."""
    nomad = config.nomad
    return client_tls("nomad", nomad.ca, nomad.certificate, nomad.key)


def listen_tls(config: AgentConfig) -> ssl.SSLContext | None:
    """Return what the listener shows, None without TLS; ConfigError for files that are none."""
    return server_tls("listen", config.listen.certificate, config.listen.key)


def gateway_certificate(config: AgentConfig) -> Certificate | None:
    """Return what HAProxy shows to clients, None without TLS; ConfigError for a file that is none.

    It is named by its content, so that a renewed one is taken over when the agent starts.
    """
    if not config.gateway.certificate:
        return None
    path = Path(config.gateway.certificate).absolute()
    check_pem("gateway", str(path))
    return Certificate(str(path), hashlib.sha256(path.read_bytes()).hexdigest()[:16])


def gateway_service(config: AgentConfig, serai_version: str) -> GatewayService:
    """Return how Consul shows this node's gateway. Pure."""
    gateway = config.gateway
    host = "" if gateway.host in ANYWHERE else gateway.host
    scheme = "https" if gateway.certificate else "http"
    return GatewayService(
        name=config.node,
        address=gateway.advertise or host,
        port=gateway.advertise_port or gateway.port,
        check_url=url_here(gateway.host, gateway.port, scheme) + HEALTH_PATH,
        check_period_s=gateway.check_period_s,
        serai_version=serai_version,
    )
