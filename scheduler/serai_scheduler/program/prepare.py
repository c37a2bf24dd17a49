"""From a configuration to what a scheduler is made from: files read, faults told before a start."""

import ssl
from dataclasses import dataclass
from importlib.metadata import version as installed_version

from serai.config import read_secret
from serai.consul.client import ConsulSettings
from serai.errors import ConfigError
from serai.runtime_code import runtime_digest, runtime_requirements
from serai.trust import client_tls, server_tls
from serai_scheduler.api.access import Access
from serai_scheduler.nomad.client import NomadSettings
from serai_scheduler.program.settings import SchedulerConfig, check_config, check_tokens
from serai_scheduler.service import Cluster


@dataclass(frozen=True)
class Secrets:
    """Tokens, read from their files; "" where none is named."""

    admin: str
    agent: str
    consul: str
    nomad: str


@dataclass(frozen=True)
class Prepared:
    """All that can be wrong with a configuration has been tried; nothing is done yet."""

    config: SchedulerConfig
    secrets: Secrets
    serving: ssl.SSLContext | None
    trust: ssl.SSLContext | None

    @property
    def consul(self) -> ConsulSettings:
        found = self.config.consul
        return ConsulSettings(
            host=found.host,
            port=found.port,
            tls=found.tls,
            ca=found.ca,
            certificate=found.certificate,
            key=found.key,
            token=self.secrets.consul,
            connections=found.connections,
        )

    @property
    def nomad(self) -> NomadSettings:
        found = self.config.nomad
        return NomadSettings(
            host=found.host,
            port=found.port,
            tls=found.tls,
            ca=found.ca,
            certificate=found.certificate,
            key=found.key,
            token=self.secrets.nomad,
            namespace=found.namespace,
            region=found.region,
        )

    @property
    def access(self) -> Access:
        return Access(self.config.names, self.secrets.admin or None, self.secrets.agent)

    @property
    def cluster(self) -> Cluster:
        config = self.config
        return Cluster(
            serai_version=installed_version("serai"),
            gateway_url=config.gateway_url.rstrip("/"),
            python=config.predictors.python,
            platform=config.platform,
            runtime_digest=runtime_digest(),
            runtime_requirements=runtime_requirements(),
            consul_connections=config.consul.connections,
        )


def prepare(config: SchedulerConfig) -> Prepared:
    """Read what a configuration names; ConfigError for whatever is wrong with it."""
    check_config(config)
    secrets = Secrets(
        admin=read_secret(config.tokens.admin, "the admin's token"),
        agent=read_secret(config.tokens.agent, "the agents' token"),
        consul=read_secret(config.consul.token_file, "the token for Consul"),
        nomad=read_secret(config.nomad.token_file, "the token for Nomad"),
    )
    check_tokens(secrets.admin, secrets.agent)
    sections: tuple[tuple[str, ConsulSettings | NomadSettings], ...] = (
        ("consul", config.consul),
        ("nomad", config.nomad),
    )
    for section, one in sections:
        if one.tls:
            client_tls(section, one.ca, one.certificate, one.key)
    serving = server_tls("listen", config.listen.certificate, config.listen.key)
    return Prepared(config, secrets, serving, _trust(config))


def _trust(config: SchedulerConfig) -> ssl.SSLContext | None:
    if not config.peers_ca:
        return None
    try:
        return ssl.create_default_context(cafile=config.peers_ca)
    except OSError as error:
        raise ConfigError(f"peers_ca: cannot use {config.peers_ca}: {error}") from error
