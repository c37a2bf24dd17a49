"""One scheduler: its loops and what its HTTP API works with, wired together."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from posixpath import normpath

import msgspec
from prometheus_client import CollectorRegistry

from serai.blobs import Blobs, collect_garbage, read_all
from serai.bundle import MAX_MANIFEST_BYTES, Manifest, read_manifest
from serai.clock import Clock
from serai.engine import Engine
from serai.errors import ConfigError, Refused
from serai.metrics import LoopMetrics, Metrics
from serai.model import Replica
from serai.operator import DeployRequest, FieldProblem, Info, PlanAnswer
from serai.report_accept import accept as accept_report
from serai.spec import Problem, normalised, validate
from serai.spec.types import ApiSpec
from serai.store import Store
from serai_scheduler.deploy import DeployRefused, Surroundings, accept
from serai_scheduler.nodes import NodeBook
from serai_scheduler.orders import Orders
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.record import StoredApi
from serai_scheduler.state import State
from serai_scheduler.traffic import TrafficBook

log = logging.getLogger(__name__)

TICK_S = 0.25
PART_MIN_AGE_S = 86_400.0


CheckSpecs = Callable[[Sequence[ApiSpec]], Awaitable[tuple[Problem, ...]]]
"""Says what keeps valid specs from running on this cluster's engine."""


@dataclass(frozen=True)
class Cluster:
    """What deploys are made for; the rest of `Info` the scheduler knows by itself."""

    serai_version: str
    gateway_url: str
    python: str
    platform: str
    runtime_digest: str
    runtime_requirements: tuple[str, ...]


class Scheduler:
    """The leader: decides and keeps; `epoch` fences everything it orders."""

    def __init__(
        self,
        clock: Clock,
        store: Store,
        engine: Engine,
        blobs: Blobs,
        parts: Blobs,
        cluster: Cluster,
        epoch: int,
        check_specs: CheckSpecs,
        registry: CollectorRegistry,
    ) -> None:
        self.clock = clock
        self.engine = engine
        self.blobs = blobs
        self.parts = parts
        """Pieces of large uploads until they are whole."""
        self.cluster = cluster
        self.epoch = epoch
        self.traffic = TrafficBook()
        self.nodes = NodeBook()
        self.state = State(store)
        self.reconciler = Reconciler(clock, self.state, engine, self.traffic, epoch)
        self.orders = Orders(clock, self.state, self.reconciler.kick, epoch)
        self.registry = registry
        self.watcher = LoopMetrics(Metrics("scheduler", registry))
        self._check_specs = check_specs
        self._started_at_s = clock.wall()
        self._deploying = asyncio.Lock()
        """Held while a deploy is accepted or blobs are collected: never both at once."""

    async def reconcile_forever(self) -> None:
        """Bring the world to what is wanted, again and again: at every kick, else periodically."""
        due_s = self.clock.now()
        while True:
            began_s = self.clock.now()
            self.watcher.late("reconcile", max(0.0, began_s - due_s), 0)
            await self.reconciler.tick()
            due_s = self.clock.now() + TICK_S
            await self.reconciler.pause(TICK_S)

    async def collect(self) -> None:
        """Remove the blobs that no version needs and no deploy under way asked about."""
        async with self._deploying:
            needed = await self._referenced(await self.state.read())
            now_s = self.clock.wall()
            gone = await collect_garbage(self.blobs, needed, now_s)
            gone += await collect_garbage(self.parts, (), now_s, PART_MIN_AGE_S)
        if gone:
            log.info("blobs collected", extra={"count": len(gone)})

    async def _referenced(self, apis: dict[str, StoredApi]) -> frozenset[str]:
        needed: set[str] = set()
        for stored in apis.values():
            for version in stored.versions.values():
                needed |= {version.content.bundle, version.content.lock}
                if version.content.bundle:
                    needed |= await self._files_of(version.content.bundle)
        return frozenset(needed - {""})

    async def _files_of(self, bundle: str) -> set[str]:
        """Return the files of a bundle; none when its manifest is lost: a deploy sends all anew."""
        try:
            return {file.digest for file in (await self._manifest(bundle)).files}
        except (Refused, ConfigError) as error:
            log.warning("manifest lost", extra={"bundle": bundle, "why": str(error)})
            return set()

    # What the API calls --------------------------------------------------------------------------

    def info(self) -> Info:
        return Info(
            serai_version=self.cluster.serai_version,
            epoch=self.epoch,
            started_at_s=self._started_at_s,
            gateway_url=self.cluster.gateway_url,
            python=self.cluster.python,
            platform=self.cluster.platform,
            runtime_digest=self.cluster.runtime_digest,
            runtime_requirements=self.cluster.runtime_requirements,
        )

    def _around(self) -> Surroundings:
        return Surroundings(
            now_s=self.clock.wall(),
            runtime_digest=self.cluster.runtime_digest,
            python=self.cluster.python,
        )

    async def plan(self, request: DeployRequest) -> PlanAnswer:
        """Say what a deploy would do; DeployRefused with every reason why it would not."""
        request = await self._checked(request)
        accepted = accept(request, await self.state.read(), self._around())
        return PlanAnswer(apis=tuple(one.plan for one in accepted))

    async def deploy(self, request: DeployRequest) -> PlanAnswer:
        """Begin a deploy; its blobs must be there already."""
        request = await self._checked(request)
        async with self._deploying:
            await self._check_blobs(request)
            accepted = await self.orders.deploy(request, self._around(), accept)
        return PlanAnswer(apis=tuple(one.plan for one in accepted))

    async def _checked(self, request: DeployRequest) -> DeployRequest:
        """Return the request with defaults filled in; the same rules as for a file hold here."""
        specs = [item.spec for item in request.apis]
        problems = validate(specs) or await self._check_specs(specs)
        if problems:
            raise DeployRefused(
                tuple(field_problem(problem) for problem in problems), "invalid_spec"
            )
        items = [msgspec.structs.replace(i, spec=normalised(i.spec)) for i in request.apis]
        return msgspec.structs.replace(request, apis=tuple(items))

    async def _check_blobs(self, request: DeployRequest) -> None:
        for item in request.apis:
            predictor, name = item.spec.predictor, item.spec.name
            if predictor is not None and not (item.bundle and item.lock):
                raise Refused(f"{name}: a predictor needs a bundle and a lock", "incomplete")
            needed = [digest for digest in (item.bundle, item.lock) if digest]
            if item.bundle and item.bundle in await self.blobs.has([item.bundle]):
                manifest = await self._manifest(item.bundle)
                needed += [file.digest for file in manifest.files]
                paths = {file.path for file in manifest.files}
                if predictor is not None and normpath(predictor.path) not in paths:
                    raise Refused(
                        f"{name}: {predictor.path} is not among the files of the bundle",
                        "incomplete",
                    )
            missing = set(needed) - await self.blobs.has(needed)
            if missing:
                raise Refused(
                    f"{item.spec.name}: {len(missing)} files of the bundle have not arrived; "
                    "deploy again to send them",
                    "blobs_missing",
                )

    async def _manifest(self, digest: str) -> Manifest:
        return read_manifest(await read_all(self.blobs, digest, MAX_MANIFEST_BYTES))

    def take_report(self, raw: bytes) -> None:
        """Take in a node's report; Refused when it is old, too big or of another version."""
        now_s = self.clock.now()
        report = accept_report(raw, self.nodes.newest(now_s))
        self.nodes.add(report, now_s)
        if report.gateway is not None:
            self.traffic.add(report.node, report.gateway, now_s)

    async def find(self, api: str) -> StoredApi:
        """Return an API; Refused with a hint when there is none."""
        apis = await self.state.read()
        if api not in apis:
            near = get_close_matches(api, apis, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Refused(f"there is no API {api}{hint}", "not_found")
        return apis[api]

    def replicas_of(self, api: str) -> tuple[Replica, ...]:
        return tuple(r for r in self.reconciler.replicas if r.api == api)


def field_problem(problem: Problem) -> FieldProblem:
    """Return a fault of a spec as the operator API tells it."""
    return FieldProblem(
        path=problem.path,
        message=str(problem),
        file=problem.file,
        line=problem.line,
        column=problem.column,
    )
