"""The parts of a cluster's agent, made but not started; `serve` runs them."""

import asyncio
import logging
import os
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from random import Random

from prometheus_client import CollectorRegistry

from serai.clock import Clock
from serai.consul.client import ConsulClient
from serai.consul.gateways import ConsulGateways, GatewayRegistration
from serai.consul.leader_book import LeaderBook
from serai.consul.registry import ConsulRegistry
from serai.consul.store import ConsulStore
from serai.errors import Refused, Unavailable
from serai.metrics import LoopMetrics, Metrics
from serai_agent.cache.in_use import note_use
from serai_agent.cache.node import NodeCache
from serai_agent.cache.wishes import Wishes
from serai_agent.edge.gateway import HaproxyGateway
from serai_agent.edge.steer import Sources as SteeringSources
from serai_agent.edge.steer import Steering
from serai_agent.program.config import (
    GATEWAY,
    REPLICAS,
    AgentConfig,
    Secrets,
    gateway_certificate,
    gateway_service,
    nomad_tls,
    scheduler_tls,
)
from serai_agent.program.leader import LeadingScheduler, leader_epoch
from serai_agent.program.schedulers import Schedulers
from serai_agent.report.beat import Identity
from serai_agent.report.gauges import ReportGauges
from serai_agent.report.gpu import GpuProbe
from serai_agent.report.node import NodeReader
from serai_agent.report.nomad import NomadProbe
from serai_agent.report.replicas import ReplicaUse
from serai_agent.report.sender import HttpSink, ReportLoop, Sources

log = logging.getLogger(__name__)

CACHE, EDGE = "cache", "gateway"


class Watched:
    """What the loops are told of, and what Prometheus reads."""

    def __init__(self) -> None:
        self.collectors = CollectorRegistry()
        self.metrics = Metrics("agent", self.collectors)
        self.loops = LoopMetrics(self.metrics)
        self.reports = ReportGauges(self.metrics)


class GatewayPart:
    """HAProxy of this node, what steers it, and its entry in Consul."""

    def __init__(
        self, config: AgentConfig, consul: ConsulClient, store: ConsulStore, clock: Clock
    ) -> None:
        self.settings = config.gateway
        self.name = config.node
        self.haproxy = make_haproxy(config, clock)
        self.registry = ConsulRegistry(consul, clock)
        self.gateways = ConsulGateways(consul, clock)
        sources = SteeringSources(store, self.registry, self.gateways, lambda: leader_epoch(store))
        self.steering = Steering(config.node, clock, self.haproxy, sources)
        service = gateway_service(config, installed_version("serai"))
        self.registration = GatewayRegistration(consul, service)
        self.draining = False
        self._unregistered = "the gateway is not registered yet"

    async def register(self) -> None:
        """Keep Consul's entry true, once requests are answered rightly, until it drains."""
        if not self.steering.steered.is_set() or self.draining:
            return
        try:
            if await self.registration.ensure():
                log.info("gateway registered", extra={"gateway": self.name})
            self._unregistered = ""
        except (Unavailable, Refused) as error:
            told = f"the gateway is not registered: {error}"
            if told != self._unregistered:
                log.warning("gateway not registered", extra={"why": str(error)})
            self._unregistered = told

    def problems(self) -> tuple[str, ...]:
        """Return in words why this is no gateway at its best."""
        found = [*self.steering.problems(), *self.registry.problems()]
        if not self.steering.steered.is_set():
            found.append("the gateway has had no orders yet")
        if self._unregistered:
            found.append(self._unregistered)
        if self.draining:
            found.append("the gateway drains")
        return tuple(found)


@dataclass(frozen=True)
class CachePart:
    """Bundles and environments of this node, for replicas that Nomad runs."""

    cache: NodeCache
    wishes: Wishes
    folder: Path

    async def prune(self) -> None:
        """Remove what is too much and long unused."""
        await asyncio.to_thread(note_use, self.folder)
        await self.cache.prune(())
        await asyncio.to_thread(self.wishes.prune)


class AgentNode:
    """Every part that this node's roles ask for."""

    def __init__(
        self, config: AgentConfig, secrets: Secrets, consul: ConsulClient, clock: Clock
    ) -> None:
        self.config, self.clock = config, clock
        self.watched = Watched()
        self.store = ConsulStore(consul, clock, config.prefix)
        self.leader = LeaderBook(consul, clock, Random(), config.prefix)
        self.schedulers = Schedulers(
            lambda: self.leader.known.address if self.leader.known else "",
            config.scheduler.addresses,
            secrets.agent_token,
            scheduler_tls(config),
            config.insecure,
        )
        self._sink: HttpSink | None = None
        self.gateway: GatewayPart | None = None
        self.cache: CachePart | None = None
        if GATEWAY in config.roles:
            self.gateway = GatewayPart(config, consul, self.store, clock)
        self.usage = ReplicaUse(clock) if REPLICAS in config.roles else None
        self.nomad: NomadProbe | None = None
        if REPLICAS in config.roles and config.nomad.address:
            self.nomad = NomadProbe(
                clock, config.nomad.address, secrets.nomad_token, nomad_tls(config)
            )
        if REPLICAS in config.roles:
            folder = Path(config.data_dir) / CACHE
            cache = NodeCache(clock, folder, self.schedulers, config.cache)
            self.cache = CachePart(cache, Wishes(clock, folder, cache), folder)

    def problems(self) -> tuple[str, ...]:
        """Return in words why this node does not all of its work."""
        found = self.gateway.problems() if self.gateway else ()
        if self._sink is not None and self._sink.refusal:
            return (*found, f"its reports are refused: {self._sink.refusal}")
        return found

    def make_probe(self) -> GpuProbe:
        """Return what reads the GPUs."""
        on_late = self.watched.loops.late
        return GpuProbe(
            self.clock, Random(), on_late=lambda late_s, missed: on_late("gpus", late_s, missed)
        )

    def make_sink(self, token: str) -> HttpSink:
        """Return what posts reports to the leader, within the schedulers' block."""
        leading = LeadingScheduler(self.leader, self.schedulers)
        self._sink = HttpSink(self.schedulers.session, leading, token, self.watched.reports)
        return self._sink

    def make_reports(self, probe: GpuProbe, sink: HttpSink) -> ReportLoop:
        """Return what makes this node's reports."""
        return ReportLoop(
            Identity(
                node=self.config.node,
                started_at_s=self.clock.wall(),
                serai_version=installed_version("serai"),
                roles=self.config.roles,
            ),
            Sources(
                node=NodeReader(Path(self.config.data_dir)).read,
                gpus=probe.current,
                replicas=self.usage.current if self.usage else None,
                gateway=self.gateway.haproxy.read if self.gateway else None,
                nomad=self.nomad.current if self.nomad else None,
            ),
            sink,
            self.clock,
            self.watched.reports,
        )


def make_haproxy(config: AgentConfig, clock: Clock) -> HaproxyGateway:
    """Return the controller of this node's HAProxy.

    ConfigError when there is no such program, or its certificate cannot be used.
    """
    gateway = config.gateway
    return HaproxyGateway(
        Path(config.data_dir) / EDGE,
        gateway.host,
        gateway.port,
        clock,
        run=f"{os.getpid()}-{clock.wall():.3f}",
        program=gateway.program,
        starts=gateway.start,
        certificate=gateway_certificate(config),
    )
