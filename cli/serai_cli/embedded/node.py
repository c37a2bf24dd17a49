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
from serai.memory import MemoryRegistry
from serai.metrics import LoopMetrics, Metrics
from serai.spec import Problem
from serai.spec.types import ApiSpec
from serai_agent.cache.node import NodeCache
from serai_agent.cache.runtime import runtime_digest, runtime_requirements
from serai_agent.edge.gateway import HaproxyGateway
from serai_agent.local.engine import LocalEngine
from serai_agent.local.mounts import mount_problem
from serai_agent.local.settings import LocalSettings
from serai_cli.embedded.folder import DataFolder
from serai_cli.embedded.limits import not_on_one_machine
from serai_scheduler.blobs.storage import FolderBlobs
from serai_scheduler.service import Cluster, Scheduler
from serai_scheduler.store.sqlite import SqliteStore

ANYWHERE = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where this machine itself reaches what listens on all of its addresses."""


@dataclass(frozen=True)
class Listening:
    """What `serai up` listens on."""

    host: str
    gateway_port: int
    control_port: int

    @property
    def gateway_url(self) -> str:
        return self._url(self.gateway_port)

    @property
    def control_url(self) -> str:
        return self._url(self.control_port)

    def _url(self, port: int) -> str:
        host = ANYWHERE.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Node:
    """Every part of one machine, made but not started; `loops` and `serve` run them.

    `metrics` and `watcher` are the agent's.
    """

    def __init__(
        self,
        folder: DataFolder,
        listening: Listening,
        clock: Clock,
        mount_roots: tuple[str, ...] = (),
    ) -> None:
        root = folder.path
        self._mount_roots = mount_roots
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
        self.engine_changed = asyncio.Event()
        self.engine = LocalEngine(
            clock,
            self.name,
            root / "engine",
            self.cache,
            settings=LocalSettings(mount_roots=mount_roots),
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
            partial(mount_problem, allowed=self._mount_roots),
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
        )
        return self.scheduler


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
