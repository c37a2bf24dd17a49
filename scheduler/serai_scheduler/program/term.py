"""What a scheduler does while it leads: one `Scheduler` and its loops for each term."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import msgspec
from prometheus_client import CollectorRegistry

from serai.blobs import Blobs
from serai.clock import Clock, backoff
from serai.consul.lease import ConsulLease
from serai.consul.store import ConsulStore
from serai.errors import Refused, Unavailable
from serai.spec import Problem
from serai.spec.types import ApiSpec
from serai.supervisor import Supervisor
from serai_scheduler.autoscale.loop import LEARNED_S, TRAFFIC_S
from serai_scheduler.autoscale.loop import TICK_S as AUTOSCALE_S
from serai_scheduler.autoscale.outside import OutsideSettings
from serai_scheduler.doctor import Seen
from serai_scheduler.leadership import NoLeader
from serai_scheduler.ledger import FLUSH_S, Ledger
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.program.engine import MakeEngine
from serai_scheduler.program.limits import not_in_cluster
from serai_scheduler.service import Cluster, Look, Scheduler
from serai_scheduler.world import UpdateLimits

log = logging.getLogger(__name__)

COLLECT_PERIOD_S = 600.0
COLLECT_LIMIT_S = 1800.0
SETTLE_S = 5.0
"""Until every gateway has found the new leader and sent a report."""


@dataclass(frozen=True)
class Holdings:
    """What a term is made from; all of it outlives the term. `store` writes as `lease` allows."""

    clock: Clock
    store: ConsulStore
    lease: ConsulLease
    make_engine: MakeEngine
    look: Look
    blobs: Blobs
    parts: Blobs
    cluster: Cluster
    jobs: JobSettings
    mount_roots: tuple[str, ...]
    limits: UpdateLimits
    ledger: Ledger
    outside: OutsideSettings


class Terms:
    """Leads again and again, as `leadership.lead` tells it to by `act`."""

    def __init__(self, holdings: Holdings, rng: Random) -> None:
        self._has = holdings
        self._rng = rng
        self._scheduler: Scheduler | None = None
        self.why_not = ""
        """Why this process cannot lead though nobody else does, "" where that is not so."""

    def tell(self, why_not: str) -> None:
        """Take in why the lease cannot be had; "" once somebody has it."""
        self.why_not = why_not

    @property
    def current(self) -> Scheduler | None:
        """Return the scheduler of the term, None while this process may not act."""
        return self._scheduler if self._has.lease.held else None

    def leading(self) -> Scheduler:
        """Return the scheduler of the term; NoLeader while this process may not act."""
        if (scheduler := self.current) is None:
            raise NoLeader("this scheduler leads no more; ask again")
        return scheduler

    async def act(self) -> None:
        """Lead until cancelled, or until it shows that somebody else does."""
        try:
            epoch = await self._has.store.raise_epoch()
        except (Unavailable, Refused) as error:
            log.warning("the lead was not taken", extra={"why": str(error)})
            return
        log.info("term begins", extra={"epoch": epoch})
        try:
            await self._run(epoch)
        finally:
            log.info("term ends", extra={"epoch": epoch})

    async def _run(self, epoch: int) -> None:
        has = self._has
        running = has.make_engine(lambda: has.lease.held, self._kick)
        scheduler = Scheduler(
            clock=has.clock,
            store=has.store,
            engine=running.engine,
            blobs=has.blobs,
            parts=has.parts,
            cluster=has.cluster,
            epoch=epoch,
            check_specs=self._check_specs,
            registry=CollectorRegistry(),
            settle_s=SETTLE_S,
            jobs=has.jobs,
            limits=has.limits,
            look=self._look,
            held=running.held,
            ledger=has.ledger,
            outside=has.outside,
        )

        async def collect() -> None:
            for pause_s in backoff(self._rng):
                try:
                    await scheduler.collect()
                    return
                except Unavailable as error:  # at the start the other schedulers may not be up yet
                    log.warning("blobs not collected", extra={"why": str(error)})
                    await has.clock.sleep(pause_s)

        self._scheduler = scheduler
        try:
            async with Supervisor(has.clock, self._rng, scheduler.watcher) as loops:
                for name, run in running.loops.items():
                    loops.start(name, run)
                loops.start("reconcile", scheduler.reconcile_forever)
                loops.start_periodic("autoscale", AUTOSCALE_S, scheduler.autoscaler.tick)
                loops.start_periodic("learned", LEARNED_S, scheduler.autoscaler.keep_learned)
                loops.start_periodic("traffic", TRAFFIC_S, scheduler.autoscaler.keep_traffic)
                loops.start("outside", scheduler.outside.run)
                loops.start("metrics", scheduler.outside.metrics.run)
                loops.start_periodic("ledger", FLUSH_S, has.ledger.flush)
                loops.start_periodic("collect", COLLECT_PERIOD_S, collect, COLLECT_LIMIT_S)
                await has.store.outrun.wait()
                log.warning("the lead is given up: its epoch is over", extra={"epoch": epoch})
        finally:
            self._scheduler = None
            scheduler.ended.set()

    async def _look(self) -> Seen:
        """Return what the programs tell, and how quickly Consul renews the lease."""
        return msgspec.structs.replace(
            await self._has.look(),
            renewal_s=self._has.lease.renewal_s,
            longest_renewal_s=self._has.lease.settings.longest_answer_s,
        )

    def _kick(self) -> None:
        if self._scheduler is not None:  # the engine is made before the scheduler that it wakes
            self._scheduler.reconciler.kick()

    async def _check_specs(self, specs: Sequence[ApiSpec]) -> tuple[Problem, ...]:
        has = self._has
        return not_in_cluster(specs, has.jobs, has.mount_roots, has.cluster.python)
