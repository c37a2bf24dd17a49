"""The configuration file of `serai-scheduler`, and which configurations are refused."""

import re
from collections.abc import Iterator
from enum import Enum
from posixpath import isabs, normpath
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta

from serai.consul.client import ConsulSettings
from serai.errors import ConfigError
from serai.lease import LeaseSettings
from serai.listening import is_loopback
from serai.model import Value
from serai_scheduler.autoscale.metric.address import address_fault
from serai_scheduler.autoscale.outside import OutsideSettings
from serai_scheduler.nomad.client import NomadSettings
from serai_scheduler.nomad.names import check_prefix
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.world import UpdateLimits

LEAST_TOKEN_LENGTH = 16
_NODE_PLATFORM = re.compile(r"linux-(?P<machine>\w+)-glibc-2\.(?P<minor>\d+)", re.ASCII)
_PYTHON = re.compile(r"3\.\d{1,3}", re.ASCII)

Port = Annotated[int, Meta(ge=1, le=65_535)]


class Listen(Value):
    """Where the operator API listens. `names` are more names that it may be called by.

    `certificate` (with its chain) and `key` are PEM files; without them it speaks plain HTTP.
    """

    host: str = "127.0.0.1"
    port: Port = 7070
    names: tuple[str, ...] = ()
    certificate: str = ""
    key: str = ""


class TokenFiles(Value):
    """Files with one token each: the admin may do everything, agents report and read blobs."""

    admin: str = ""
    agent: str = ""


class ConsulSection(ConsulSettings):
    """Where Consul is, the file with its token, and the prefix of all keys."""

    token_file: str = ""
    prefix: str = "serai/"


class NomadSection(NomadSettings):
    """Where Nomad is, and the file with its token."""

    token_file: str = ""


class Predictors(Value):
    """What predictors run on: requirements are resolved for it, whoever deploys.

    `platform` is as uv names it, "" for what follows from `jobs.platform`.
    """

    python: str = "3.11"
    platform: str = ""


class BlobsLie(Enum):
    """Where a cluster's blobs lie: who can serve them."""

    LEADER = "in a folder of the leader"
    MAJORITY = "in folders of the schedulers, each in a majority of them"
    SHARED = "in a store that all schedulers share"


class SchedulerConfig(Value):
    """One scheduler of a cluster.

    `advertise` is the URL at which agents and the other schedulers call this one, "" for its own
    address, which must be that of one machine. `peers_ca` is a file with the certificates that
    theirs are checked by, "" for the system's. `blobs` is a folder or `s3://bucket/prefix`, ""
    for a folder in `data_dir`. `peers` are the addresses of all schedulers, this one included, the
    same on each: a majority of them holds each blob in its folder. `gateway_url` is where callers
    of the APIs send their requests. Replicas may mount folders below `mount_roots` alone.
    `autoscaling` says where policies of users' own lie, and where Prometheus is.
    """

    data_dir: str
    gateway_url: str
    advertise: str = ""
    peers_ca: str = ""
    peers: tuple[str, ...] = ()
    blobs: str = ""
    mount_roots: tuple[str, ...] = ()
    insecure: bool = False
    listen: Listen = Listen()
    tokens: TokenFiles = TokenFiles()
    predictors: Predictors = Predictors()
    consul: ConsulSection = ConsulSection()
    nomad: NomadSection = NomadSection()
    jobs: JobSettings = JobSettings()
    updates: UpdateLimits = UpdateLimits()
    autoscaling: OutsideSettings = OutsideSettings()
    lease: LeaseSettings = LeaseSettings()

    @property
    def blobs_url(self) -> str:
        """Return where blobs lie: a path, or the URL of a store, without an end."""
        return (self.blobs.removeprefix("file://") or f"{self.data_dir}/blobs").rstrip("/")

    @property
    def blobs_lie(self) -> BlobsLie:
        """Say who can serve blobs."""
        if "://" in self.blobs_url:
            return BlobsLie.SHARED
        return BlobsLie.MAJORITY if self.others else BlobsLie.LEADER

    @property
    def others(self) -> tuple[str, ...]:
        """Return the addresses of the other schedulers, without an end."""
        named = dict.fromkeys(url.rstrip("/") for url in self.peers)
        return tuple(url for url in named if url != self.address)

    @property
    def address(self) -> str:
        """Return the URL that this scheduler is called at, without an end."""
        if self.advertise:
            return self.advertise.rstrip("/")
        host = self.listen.host
        scheme = "https" if self.listen.certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.listen.port}"

    @property
    def names(self) -> frozenset[str]:
        """Return the names that it may be called by."""
        own = {"127.0.0.1", "localhost", "::1", self.listen.host, *self.listen.names}
        advertised = urlsplit(self.address).hostname or ""
        return frozenset({name.lower() for name in (*own, advertised)} - {"", "*"})

    @property
    def platform(self) -> str:
        """Return the platform of predictors as uv names it, "" when it cannot be told."""
        found = _NODE_PLATFORM.fullmatch(self.jobs.platform)
        derived = f"{found['machine']}-manylinux_2_{found['minor']}" if found else ""
        return self.predictors.platform or derived


def check_config(config: SchedulerConfig) -> None:
    """Raise ConfigError with the first fault of a configuration and what would do."""
    for fault in _faults(config):
        raise ConfigError(fault)
    check_prefix(config.jobs.prefix)


def check_tokens(admin: str, agent: str) -> None:
    """Raise ConfigError for tokens that guard nothing; "" is none."""
    for token, whose in ((admin, "admin"), (agent, "agent")):
        if token and len(token) < LEAST_TOKEN_LENGTH:
            raise ConfigError(
                f"tokens.{whose}: the token has {len(token)} characters, which can be guessed; "
                f"at least {LEAST_TOKEN_LENGTH} are asked for (`openssl rand -hex 32` makes one)"
            )
    if admin and admin == agent:
        raise ConfigError(
            "tokens: the admin's and the agents' are the same; each agent could deploy then: "
            "make another"
        )


def _faults(config: SchedulerConfig) -> Iterator[str]:
    yield from _security_faults(config)
    yield from _address_faults(config)
    yield from _peer_faults(config)
    yield from _path_faults(config)
    if config.consul.token or config.nomad.token:
        section = "consul" if config.consul.token else "nomad"
        yield f"{section}.token: put the token into a file and name it as {section}.token_file"
    if not config.consul.prefix.endswith("/") or config.consul.prefix.startswith("/"):
        yield f"consul.prefix: {config.consul.prefix!r} should end in a / and begin with none"
    if not _PYTHON.fullmatch(config.predictors.python):
        yield f"predictors.python: {config.predictors.python!r} is no version such as 3.11"
    if not config.platform:
        yield (
            f"predictors.platform: it does not follow from jobs.platform "
            f"{config.jobs.platform!r}; set it, such as x86_64-manylinux_2_36"
        )
    if config.jobs.namespace != config.nomad.namespace:
        yield (
            f"jobs.namespace {config.jobs.namespace!r} is not nomad.namespace "
            f"{config.nomad.namespace!r}: the scheduler would not see its own jobs; use one"
        )
    lease = config.lease
    if not 0 < lease.margin_s < lease.ttl_s - lease.renew_period_s or lease.lock_delay_s < 0:
        yield (
            f"lease: margin_s {lease.margin_s:g} should lie between 0 and two thirds of ttl_s "
            f"{lease.ttl_s:g}, and lock_delay_s be no less than 0"
        )


def _path_faults(config: SchedulerConfig) -> Iterator[str]:
    if not isabs(config.data_dir):
        yield f"data_dir: {config.data_dir!r} should be an absolute path"
    if config.blobs and config.blobs_lie is not BlobsLie.SHARED and not isabs(config.blobs_url):
        yield f"blobs: {config.blobs!r} is neither an absolute path nor such as s3://bucket/prefix"
    if (policies := config.autoscaling.policies) and not isabs(policies):
        yield f"autoscaling.policies: {policies!r} should be an absolute path"
    if fault := address_fault(config.autoscaling.prometheus):
        yield f"autoscaling.prometheus: {fault}"
    for root in config.mount_roots:
        if not isabs(root) or normpath(root) != root.rstrip("/"):
            yield f"mount_roots: {root!r} should be an absolute path without `..`, and not /"


def _security_faults(config: SchedulerConfig) -> Iterator[str]:
    listen = config.listen
    if bool(listen.certificate) != bool(listen.key):
        yield "listen: a certificate needs its key and a key its certificate; name both files"
    if config.insecure:
        return
    way_out = "or set `insecure = true` where everybody who reaches it may deploy"
    if not config.tokens.admin:
        yield f"tokens.admin: name a file with the admin's token, {way_out}"
    if not is_loopback(listen.host):
        if not listen.certificate:
            yield (
                f"listen: beyond this machine ({listen.host or '*'}) it needs TLS: name "
                f"certificate and key, {way_out}"
            )
        if not config.tokens.agent:
            yield f"tokens.agent: name a file with the agents' token, {way_out}"


def _address_faults(config: SchedulerConfig) -> Iterator[str]:
    yield from _url_faults("gateway_url", config.gateway_url)
    if not config.advertise and config.listen.host in ("", "*", "0.0.0.0", "::"):
        yield (
            "advertise: it listens on all addresses of the machine; say at which URL the others "
            f"call it, such as https://scheduler-1.example:{config.listen.port}"
        )
    yield from _url_faults("advertise", config.address)
    if not config.insecure and config.listen.certificate and config.address.startswith("http:"):
        yield f"advertise: {config.address} is plain HTTP, but it listens with TLS; use https://"


def _peer_faults(config: SchedulerConfig) -> Iterator[str]:
    if not config.peers:
        return
    for url in config.peers:
        yield from _url_faults("peers", url)
        host = urlsplit(url).hostname or ""
        if not config.insecure and url.startswith("http:") and not is_loopback(host):
            yield (
                f"peers: {url} is not https, and the admin's token goes nowhere without TLS; use "
                "https://, or set `insecure = true` where nobody else is on the network"
            )
    named = [url.rstrip("/") for url in config.peers]
    if config.address not in named:
        yield (
            f"peers: this scheduler's own address {config.address} is not among them; name all "
            "schedulers by what they `advertise`, the same list on each"
        )
    if len(set(named)) < len(named):
        yield "peers: one of them stands there twice"
    if config.blobs_lie is BlobsLie.SHARED:
        yield f"peers: the blobs lie in {config.blobs}, which all schedulers share; leave out peers"


def _url_faults(key: str, url: str) -> Iterator[str]:
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        yield f"{key}: {url!r} is no URL such as https://name:7070"
    elif parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        yield f"{key}: {url!r} should hold a name and a port and nothing behind them"


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # it is read only now
    except ValueError:
        return None
    return parts
