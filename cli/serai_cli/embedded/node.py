"""A one-machine Serai wired together: scheduler, agent and engine on their in-process ports."""

import asyncio
import os
import platform
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as installed_version

from prometheus_client import CollectorRegistry

from serai.clock import Clock
from serai.errors import ConfigError
from serai.listening import is_loopback, url_here
from serai.memory import MemoryRegistry
from serai.metrics import LoopMetrics, Metrics
from serai.runtime_code import runtime_digest, runtime_requirements
from serai.spec import Problem
from serai.spec.types import ApiSpec
from serai_agent.cache.node import NodeCache
from serai_agent.edge.gateway import HaproxyGateway
from serai_agent.local.engine import LocalEngine
from serai_agent.local.mounts import mount_problem
from serai_agent.local.settings import LocalSettings
from serai_cli.embedded import Allowed
from serai_cli.embedded.folder import DataFolder
from serai_cli.embedded.limits import not_on_one_machine, without_effect
from serai_scheduler.autoscale.outside import OutsideSettings
from serai_scheduler.blobs.storage import FolderBlobs
from serai_scheduler.ledger import Ledger
from serai_scheduler.service import Cluster, Scheduler
from serai_scheduler.store.sqlite import SqliteStore
from serai_scheduler.world import UpdateLimits


@dataclass(frozen=True)
class Listening:
    """What `serai up` listens on; others than this machine reach it only where that is wanted."""

    host: str
    gateway_port: int
    control_port: int
    insecure: bool = False

    def check(self) -> None:
        """Raise ConfigError when others could read tokens and requests on their way."""
        if not self.insecure and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host or '*'} is reached from elsewhere, and `serai up` has no TLS: "
                "tokens and requests could be read on their way; put a TLS proxy in front and "
                "leave --host out, or add --insecure where nobody else is on the network"
            )

    @property
    def gateway_url(self) -> str:
        return url_here(self.host, self.gateway_port)

    @property
    def control_url(self) -> str:
        return url_here(self.host, self.control_port)


class Node:
    """Every part of one machine, made but not started; `loops` and `serve` run them.

    `metrics` and `watcher` are the agent's.
    """

    def __init__(
        self,
        folder: DataFolder,
        listening: Listening,
        clock: Clock,
        allowed: Allowed,
    ) -> None:
        root = folder.path
        self._allowed = allowed
        self.folder, self.listening, self.clock = folder, listening, clock
        self.name = socket.gethostname()
        self.version = installed_version("serai")
        self.registry = MemoryRegistry()
        self._collectors = CollectorRegistry()
        self.metrics = Metrics("agent", self._collectors)
        self.watcher = LoopMetrics(self.metrics)
        self.store = SqliteStore(root / "store.db")
        self.blobs = FolderBlobs(root / "blobs", clock)
        self.parts = FolderBlobs(root / "parts", clock)
        self.cache = NodeCache(clock, root / "cache", self.blobs)
        self.ledger = Ledger(root / "ledger.db")
        self.engine_changed = asyncio.Event()
        self.engine = LocalEngine(
            clock,
            self.name,
            root / "engine",
            self.cache,
            settings=LocalSettings(mount_roots=allowed.mount_roots),
            changed=self._on_engine_change,
            watcher=self.watcher,
        )
        self.gateway = HaproxyGateway(
            root / "gateway",
            listening.host,
            listening.gateway_port,
            clock,
            run=f"{os.getpid()}-{clock.wall():.3f}",
        )
        self.scheduler: Scheduler | None = None

    def _on_engine_change(self) -> None:
        self.engine_changed.set()
        if self.scheduler is not None:
            self.scheduler.reconciler.kick()

    async def _check_specs(self, specs: Sequence[ApiSpec]) -> tuple[Problem, ...]:
        return not_on_one_machine(
            specs,
            await self.engine.docker_problem(),
            partial(mount_problem, allowed=self._allowed.mount_roots),
        )

    def make_scheduler(self, epoch: int) -> Scheduler:
        """Make the scheduler over this machine's ports."""
        cluster = Cluster(
            serai_version=self.version,
            gateway_url=self.listening.gateway_url,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
            platform=platform_name(),
            runtime_digest=runtime_digest(),
            runtime_requirements=runtime_requirements(),
        )
        self.scheduler = Scheduler(
            clock=self.clock,
            store=self.store,
            engine=self.engine,
            blobs=self.blobs,
            parts=self.parts,
            cluster=cluster,
            epoch=epoch,
            check_specs=self._check_specs,
            registry=self._collectors,
            remarks=without_effect,
            ledger=self.ledger,
            limits=AT_ONCE,
            outside=OutsideSettings(
                policies=self._allowed.policies, prometheus=self._allowed.prometheus
            ),
        )
        return self.scheduler


AT_ONCE = UpdateLimits(steady_s=0.0)
"""Who writes a model wants to see it at once; what ends again and again is told by `serai get`."""


def platform_name() -> str:
    """Return this machine as uv names platforms for resolving."""
    machine = platform.machine()
    if sys.platform == "darwin":
        return f"{'aarch64' if machine == 'arm64' else machine}-apple-darwin"
    library, version = platform.libc_ver()
    minor = version.partition(".")[2]
    if library != "glibc" or not minor.isdigit():
        return f"{machine}-unknown-linux-musl"
    return f"{machine}-manylinux_2_{minor}"
