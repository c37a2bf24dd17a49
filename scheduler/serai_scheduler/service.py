"""One scheduler: its loops and what its HTTP API works with, wired together."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from difflib import get_close_matches
from posixpath import normpath
from random import Random

import msgspec
from prometheus_client import CollectorRegistry

from serai.blobs import Blobs, collect_garbage
from serai.bundle import Manifest
from serai.clock import Clock
from serai.engine import Engine
from serai.errors import ConfigError, Refused
from serai.metrics import LoopMetrics, Metrics
from serai.model import Replica, Version
from serai.operator import (
    DeployRequest,
    Examination,
    FieldProblem,
    Info,
    NodeRequest,
    NodeStatus,
    NodeWish,
    PlanAnswer,
)
from serai.report import GATEWAY_ROLE, ReportTaken
from serai.report_accept import accept as accept_report
from serai.spec import Problem, normalised, validate
from serai.spec.types import ApiSpec
from serai.store import Store
from serai_scheduler.autoscale.loop import Autoscaler
from serai_scheduler.autoscale.outside import NOTHING_OUTSIDE, Outside, OutsideSettings
from serai_scheduler.blobs.needed import manifest_of, roots_of, wrong_size
from serai_scheduler.blobs.runtime import keep_runtime
from serai_scheduler.deploy import Accepted, DeployRefused, Surroundings, accept
from serai_scheduler.doctor import Seen, examine
from serai_scheduler.ledger import Ledger
from serai_scheduler.nodeplan import engine_drain_waits_for, waits_for
from serai_scheduler.nodes import NodeBook, skew_s
from serai_scheduler.nomad.job import Job, job_of
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.orders import Orders
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.record import StoredApi
from serai_scheduler.refusals import RefusedReports
from serai_scheduler.rendering import would_run
from serai_scheduler.state import State
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import TrafficBook
from serai_scheduler.world import DEFAULT_LIMITS, UpdateLimits

log = logging.getLogger(__name__)

TICK_S = 0.25
PART_MIN_AGE_S = 86_400.0


CheckSpecs = Callable[[Sequence[ApiSpec]], Awaitable[tuple[Problem, ...]]]
"""Says what keeps valid specs from running on this cluster's engine."""
Look = Callable[[], Awaitable[Seen]]
"""Asks the programs that the engine consists of what they are."""
HeldJob = Callable[[Version], Awaitable[Job | None]]
"""Returns the Nomad job that a version runs as, as somebody could hand it in; None without one."""
Remarks = Callable[[ApiSpec], Sequence[str]]
"""Says what a spec asks for that this cluster's engine does nothing with."""


async def nothing_to_see() -> Seen:
    """Look at an engine that consists of no programs."""
    return Seen()


async def no_job(_: Version) -> Job | None:
    """Tell of an engine that runs nothing in Nomad."""
    return None


@dataclass(frozen=True)
class Cluster:
    """What deploys are made for; the rest of `Info` the scheduler knows by itself."""

    serai_version: str
    gateway_url: str
    python: str
    platform: str
    runtime_digest: str
    runtime_requirements: tuple[str, ...]
    consul_connections: int = 0
    """How many are opened to Consul at most."""


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
        jobs: JobSettings | None = None,
        settle_s: float = 0.0,
        limits: UpdateLimits = DEFAULT_LIMITS,
        remarks: Remarks = lambda spec: (),
        look: Look | None = None,
        held: HeldJob = no_job,
        ledger: Ledger | None = None,
        outside: OutsideSettings = NOTHING_OUTSIDE,
    ) -> None:
        """`settle_s` is how long after its start it may not yet have heard of every gateway."""
        self.clock = clock
        self.engine = engine
        self.blobs = blobs
        self.parts = parts
        """Pieces of large uploads until they are whole."""
        self.cluster = cluster
        self.epoch = epoch
        self.ended = asyncio.Event()
        """Set once it acts no more: whoever follows something of it is to ask the next one."""
        self.traffic = TrafficBook(clock.now() + settle_s)
        self.nodes = NodeBook()
        self.refused_reports = RefusedReports()
        self.state = State(store)
        self._term_clock = term_clock = TermClock(clock)
        self.reconciler = Reconciler(term_clock, self.state, engine, self.traffic, epoch, limits)
        self.ledger = ledger or Ledger()
        self.outside = Outside(outside, clock, Random())
        self.autoscaler = Autoscaler(
            clock, self.state, self.traffic, self.reconciler, self.ledger, self.outside, epoch
        )
        self.orders = Orders(term_clock, self.state, self.reconciler.kick, epoch)
        self.registry = registry
        self._jobs = jobs or JobSettings()
        self.watcher = LoopMetrics(Metrics("scheduler", registry))
        self._check_specs, self._remarks = check_specs, remarks
        self._look, self._held = look, held
        self._started_at_s = clock.wall()
        self._deploying = asyncio.Lock()
        """Held while a deploy is accepted, or some blobs are removed: never both at once."""

    async def reconcile_forever(self) -> None:
        """Bring the world to what is wanted, again and again: at every kick, else periodically."""
        due_s = self.clock.now()
        async with aclosing(self.reconciler):
            while True:
                began_s = self.clock.now()
                self.watcher.late("reconcile", max(0.0, began_s - due_s), 0)
                await self.reconciler.tick()
                due_s = self.clock.now() + TICK_S
                await self.reconciler.pause(TICK_S)

    async def collect(self) -> None:
        """Remove the blobs that no version needs and no deploy under way asked about.

        The runtime for new versions is stored: a node of another release gets it from there.
        """
        await keep_runtime(self.blobs)
        now_s = self.clock.wall()  # what a deploy asks about from here on stays
        apis = await self.state.read()
        if self.state.faults:
            # What an API needs that cannot be read nobody knows: nothing may go.
            log.warning("blobs not collected", extra={"why": "; ".join(self.state.faults.values())})
            return
        needed = await self._referenced(apis)
        gone = await collect_garbage(self.blobs, needed, now_s, alone=self._deploying)
        gone += await collect_garbage(self.parts, (), now_s, PART_MIN_AGE_S)
        if gone:
            log.info("blobs collected", extra={"count": len(gone)})

    async def _referenced(self, apis: dict[str, StoredApi]) -> frozenset[str]:
        roots = roots_of(apis.values())
        needed = {self.cluster.runtime_digest, *roots.bundles, *roots.others}
        for bundle in roots.bundles:
            needed |= await self._files_of(bundle)
        return frozenset(needed - {""})

    async def _files_of(self, bundle: str) -> set[str]:
        """Return the files of a bundle; none when its manifest is lost: a deploy sends all anew."""
        try:
            return {file.digest for file in (await manifest_of(self.blobs, bundle)).files}
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
            now_s=self._term_clock.wall(),
            runtime_digest=self.cluster.runtime_digest,
            python=self.cluster.python,
        )

    async def plan(self, request: DeployRequest) -> PlanAnswer:
        """Say what a deploy would do; DeployRefused with every reason why it would not."""
        request = await self._checked(request)
        apis = await self.state.read()
        for item in request.apis:
            self.state.check(item.spec.name)
        accepted = accept(request, apis, self._around())
        return self._answer(request, accepted)

    async def deploy(self, request: DeployRequest) -> PlanAnswer:
        """Begin a deploy; its blobs must be there already."""
        request = await self._checked(request)
        async with self._deploying:
            await self._check_blobs(request)
            accepted = await self.orders.deploy(request, self._around(), accept)
        return self._answer(request, accepted)

    def _answer(self, request: DeployRequest, accepted: Sequence[Accepted]) -> PlanAnswer:
        notes = {item.spec.name: tuple(self._remarks(item.spec)) for item in request.apis}
        plans = (msgspec.structs.replace(one.plan, notes=notes[one.plan.api]) for one in accepted)
        return PlanAnswer(apis=tuple(plans))

    async def _checked(self, request: DeployRequest) -> DeployRequest:
        """Return the request with defaults filled in; the same rules as for a file hold here."""
        specs = [item.spec for item in request.apis]
        problems = validate(specs) or await self._check_specs(specs)
        if not problems:
            present = [stored.record.spec for stored in (await self.state.read()).values()]
            problems = await self.outside.problems(specs, present)
        if problems:
            raise DeployRefused(
                tuple(field_problem(problem) for problem in problems), "invalid_spec"
            )
        items = [msgspec.structs.replace(i, spec=normalised(i.spec)) for i in request.apis]
        return msgspec.structs.replace(request, apis=tuple(items))

    async def _check_blobs(self, request: DeployRequest) -> None:
        known = roots_of((await self.state.read()).values()).bundles  # looked at when they came
        for item in request.apis:
            predictor, name = item.spec.predictor, item.spec.name
            manifest = Manifest(files=())
            if predictor is not None and not (item.bundle and item.lock):
                raise Refused(f"{name}: a predictor needs a bundle and a lock", "incomplete")
            needed = [digest for digest in (item.bundle, item.lock) if digest]
            if item.bundle and item.bundle in await self.blobs.has([item.bundle]):
                manifest = await manifest_of(self.blobs, item.bundle)
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
            if item.bundle not in known and (wrong := await wrong_size(self.blobs, manifest)):
                raise Refused(f"{name}: {wrong}; make the bundle anew", "size_mismatch")

    def take_report(self, raw: bytes) -> ReportTaken:
        """Take in a node's report; Refused when it is old, too big or of another version."""
        now_s = self.clock.now()
        report = accept_report(raw, lambda node: self.nodes.newest(node, now_s))
        self.nodes.add(report, now_s)
        if report.gateway is None:
            if GATEWAY_ROLE in report.roles:
                self.traffic.add_speechless(report.node, now_s)
            return ReportTaken()
        self.traffic.add(report.node, report.gateway, now_s)
        book, demand = self.traffic.demand, report.gateway.demand
        return ReportTaken(demand_since=book.add(report.node, demand, self.clock.wall()))

    async def find(self, api: str) -> StoredApi:
        """Return an API; Refused with a hint when there is none."""
        apis = await self.state.read()
        self.state.check(api)
        if api not in apis:
            near = get_close_matches(api, apis, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Refused(f"there is no API {api}{hint}", "not_found")
        return apis[api]

    async def node_statuses(self) -> tuple[NodeStatus, ...]:
        """Return every node, with what is wanted of it and what a drain waits for."""
        records = {name: one.record for name, one in (await self.state.read()).items()}
        intents, now_s = self.state.intents, self.clock.now()
        replicas = [one for mine in self.reconciler.by_api.values() for one in mine]
        in_flight = self.traffic.view(now_s).in_flight
        found, wall_s = [], self.clock.wall()
        known = {one.name: one for one in self.reconciler.nodes}
        for status in self.nodes.statuses(now_s, self.reconciler.nodes):
            status = msgspec.structs.replace(
                status,
                clock_skew_s=skew_s(status, wall_s),
                replicas=sum(one.node == status.node and one.alive for one in replicas),
            )
            if (intent := intents.get(status.node)) is not None:
                drains = intent.wish is NodeWish.DRAIN
                left = waits_for(status.node, replicas, records, in_flight) if drains else ()
                status = msgspec.structs.replace(status, wish=intent.wish, waiting=left)
            if (node := known.get(status.node)) is not None and not status.waiting:
                left = engine_drain_waits_for(node, replicas, wall_s)
                status = msgspec.structs.replace(status, waiting=left)
            found.append(status)
        return tuple(found)

    async def examination(self) -> Examination:
        """Return how the cluster is; nothing is told of one that consists of one machine."""
        if self._look is None:
            return Examination(findings=())
        seen, nodes = await self._look(), await self.node_statuses()
        refused, wall_s = self.refused_reports.told(self.clock.now()), self.clock.wall()
        connections = self.cluster.consul_connections
        found = examine(seen, nodes, self._jobs, connections, wall_s, refused)
        return Examination(findings=found)

    async def order_node(self, node: str, request: NodeRequest) -> None:
        """Close, empty or open a node; Refused where there is none, or no other one to go to."""
        known = {one.name: one for one in await self.engine.nodes()}
        if node not in known:
            near = get_close_matches(node, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; see `serai nodes`"
            raise Refused(f"there is no node {node}{hint}", "not_found")
        others = [one for one in known.values() if one.takes and one.name != node]
        if request.wish is not NodeWish.OPEN and not others:
            raise Refused(
                f"no node but {node} takes replicas, so they would have nowhere to go; add a node, "
                "or `serai node uncordon` another one first",
                "only_node",
            )
        await self.orders.node(request, node)

    async def render(self, api: str, version: str) -> Job:
        """Return the Nomad job of an API's version, the one that serves when none is named.

        A job that runs is returned as it is: another one would end replicas where it is run.
        """
        stored = await self.find(api)
        record = stored.record
        candidate = record.candidate.version if record.candidate else ""
        name = version or record.stable or candidate
        if name not in stored.versions:
            known = ", ".join(stored.versions) or "none"
            raise Refused(f"{api} has no version {name or 'yet'}; it has {known}", "not_found")
        if (running := await self._held(stored.versions[name])) is not None:
            return running
        numbers, drain_s = would_run(record, name, self.replicas_of(api))
        return job_of(stored.versions[name], numbers, self._jobs, drain_s)

    def replicas_of(self, api: str) -> tuple[Replica, ...]:
        """Return the replicas of an API that the last tick saw."""
        return self.reconciler.by_api.get(api, ())


def field_problem(problem: Problem) -> FieldProblem:
    """Return a fault of a spec as the operator API tells it."""
    return FieldProblem(
        path=problem.path,
        message=str(problem),
        file=problem.file,
        line=problem.line,
        column=problem.column,
    )
