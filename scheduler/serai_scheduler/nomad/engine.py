"""The engine of a cluster: replicas as task groups of Nomad jobs, one job for each version."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from serai.clock import Clock
from serai.engine import USUAL_DRAIN_S, EngineNode, LogLine, LogQuery
from serai.errors import ConfigError, Refused, Unavailable
from serai.logqueries import read_logs, takes
from serai.model import Replica, Server, Version
from serai.registry import Registry
from serai_scheduler.nomad.asking import Asker
from serai_scheduler.nomad.capacity import capacities
from serai_scheduler.nomad.client import NomadClient
from serai_scheduler.nomad.drains import Drains
from serai_scheduler.nomad.explain import Explainer
from serai_scheduler.nomad.follow import Follower
from serai_scheduler.nomad.job import (
    Job,
    as_handed_in,
    job_of,
    multiplied,
    others_of,
    with_drain,
    with_replicas,
)
from serai_scheduler.nomad.memory import Memory, streams_of
from serai_scheduler.nomad.names import (
    JobName,
    check_prefix,
    job_id,
    job_name,
    number_of,
    parse_id,
    parse_replica,
    replica_id,
)
from serai_scheduler.nomad.nodes import UNKNOWN, nodes_of
from serai_scheduler.nomad.others import Others
from serai_scheduler.nomad.parts import Parts
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.snapshot import (
    Seen,
    Snapshot,
    failed_numbers,
    has_ended,
    replicas_of,
)
from serai_scheduler.nomad.streams import Stream

log = logging.getLogger(__name__)

REGISTRY_WAIT_S = 30.0
REGISTRY_LIMIT_S = 2.0
TIDY_PERIOD_S = 5.0
LOG_PERIOD_S = 1.0
NO_SUCH_POOL = "nonexistent node pool"
LOG_ALLOCATIONS = 200
"""The most allocations whose lines are read for one query, the latest ones."""


class NomadEngine:
    """Implements `serai.engine.Engine` on Nomad; keep `run` going.

    Every change registers a job as it was read, less or more a few groups, under the index that
    was read, so that a writer with an old sight is refused and an answer that is lost starts
    nothing twice. Nomad looks at the index and writes in two steps: of two orders within the same
    milliseconds both may be taken, so one engine gives one after the other.
    `leading` is asked right before each write, in a thread, and says whether this process may still
    give orders; `changed` is called whenever `observe` would show something else.
    """

    def __init__(
        self,
        client: NomadClient,
        registry: Registry,
        clock: Clock,
        settings: JobSettings,
        leading: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        """Raise ConfigError for a prefix of jobs that cannot be told from others."""
        check_prefix(settings.prefix)
        self._client = client
        self._registry = registry
        self._clock = clock
        self._settings = settings
        self._leading = leading
        self._changed = changed
        self._epoch = 0
        self._ordering = asyncio.Lock()
        self._follower = Follower(client, clock, settings.prefix, changed)
        self._memory = Memory(client, clock)
        self._asker = Asker(clock, changed)
        self._drains = Drains(client)
        self._others = Others(client, clock, settings.prefix)
        self._parts = Parts(settings.prefix)
        self._untidied: dict[str, str] = {}
        """By job why what is to go out of it is still there."""
        self._looked_at: tuple[Snapshot, Sequence[Seen]] = (Snapshot(), ())
        self._explainer = Explainer(
            client, clock, settings.mhz_per_core, self._waiting, self._changed
        )

    async def run(self) -> None:
        """Follow Nomad and the registry until cancelled."""
        async with (
            aclosing(self._memory),
            aclosing(self._drains),
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._follower.run())
            group.create_task(self._explainer.run())
            group.create_task(self._asker.run())
            group.create_task(self._others.run())
            group.create_task(self._follow_registry())
            group.create_task(self._tidy())

    async def _follow_registry(self) -> None:
        revision = (await self._registry.watch(-1, 0)).revision
        while True:
            listing = await self._registry.watch(revision, REGISTRY_WAIT_S)
            if listing.revision != revision:
                revision = listing.revision
                self._changed()

    # The port ------------------------------------------------------------------------------------

    async def observe(self) -> Sequence[Replica]:
        """As the port says, as of this engine's own last order at least.

        Raises Unavailable when Nomad has not answered for some seconds.
        """
        snapshot = await self._present()
        seen = self._asker.look_at(snapshot, await self._seen(snapshot))
        return await self._memory.completed(seen)

    async def start(
        self,
        replicas: Sequence[str],
        version: Version,
        epoch: int,
        drain_s: float = USUAL_DRAIN_S,
    ) -> None:
        """As the port says. All are started by one register, or none is."""
        self._heed_epoch(epoch)
        name = job_name(version)
        numbers = {_number(replica, name) for replica in replicas}
        async with self._ordering:
            await self._start(name, numbers, version, drain_s)

    async def _start(
        self, name: JobName, numbers: Collection[int], version: Version, drain_s: float
    ) -> None:
        snapshot = self._parts.of(name.api, await self._present())
        known = {seen.replica.id for seen in self._replicas(snapshot, ())}
        numbers = {number for number in numbers if replica_id(name, number) not in known}
        if not numbers:
            return
        before = snapshot.jobs.get(job_id(self._settings.prefix, name))
        if before is not None and before.numbers:
            failed = failed_numbers(snapshot, self._settings.prefix).get(before.body["ID"], ())
            grown = with_replicas(before.body, numbers, failed)
            await self._register(with_drain(grown, drain_s, self._settings), before.index)
            return
        try:
            job = job_of(version, numbers, self._settings, drain_s)
        except ConfigError as error:
            raise Refused(str(error), "cannot_run_here") from error
        if before is None:
            await self._register_new(job, 0)
        else:
            groups = [*job["TaskGroups"], *others_of(before.body)]
            await self._register_new({**job, "TaskGroups": groups}, before.index)

    async def stop(self, replicas: Sequence[str], grace_s: float, epoch: int) -> None:
        """As the port says; how long a replica may take to end stands in its job."""
        self._heed_epoch(epoch)
        leaving: dict[str, set[int]] = {}
        for replica in replicas:
            if (found := parse_replica(replica)) is not None:
                name, number = found
                leaving.setdefault(job_id(self._settings.prefix, name), set()).add(number)
        async with self._ordering:
            snapshot = await self._present()
            for job, numbers in leaving.items():
                held = snapshot.jobs.get(job)
                if held is not None and held.numbers & numbers:
                    await self._register(with_replicas(held.body, (), numbers), held.index)

    async def grant(self, version: Version, drain_s: float, epoch: int) -> None:
        """As the port says: in the job, from which a task takes it when it starts."""
        self._heed_epoch(epoch)
        job = job_id(self._settings.prefix, job_name(version))
        async with self._ordering:
            held = (await self._present()).jobs.get(job)
            if held is not None and held.numbers:
                granted = with_drain(held.body, drain_s, self._settings)
                if granted != held.body:
                    await self._register(granted, held.index)

    async def nodes(self) -> Sequence[EngineNode]:
        """As the port says."""
        nodes = (await self._present()).nodes
        others = self._others.allocations
        known = capacities(nodes, others, self._settings) if others is not None else UNKNOWN
        return nodes_of(nodes, await self._drains.deadlines(nodes), known)

    async def take(self, node: str, takes: bool, epoch: int) -> None:
        """As the port says: in Nomad's words, a node is eligible or not."""
        self._heed_epoch(epoch)
        found = [one["ID"] for one in (await self._present()).nodes if one["Name"] == node]
        if not found:
            raise Refused(f"Nomad has no node {node}", "not_found")
        for one in found:
            await self._client.open_node(one, takes, self._leading)

    async def forget(self, api: str, epoch: int) -> None:
        """As the port says: jobs of the API that are stopped and have nothing left are purged."""
        self._heed_epoch(epoch)
        async with self._ordering:
            await self._forget(self._parts.of(api, await self._present()))

    async def _forget(self, snapshot: Snapshot) -> None:
        """Purge what is stopped of an API; the snapshot is the part that is of it."""
        alive = {one["JobID"] for one in snapshot.allocations if not has_ended(one)}
        self._memory.forget([one["ID"] for one in snapshot.allocations if has_ended(one)])
        failed = failed_numbers(snapshot, self._settings.prefix)
        for job, held in snapshot.jobs.items():
            nothing_to_come = held.numbers <= failed.get(job, frozenset())
            if nothing_to_come and job not in alive and not others_of(held.body):
                index = await self._client.stop(job, purge=True, allowed=self._leading)
                self._follower.wrote(index)

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """As the port says; lines that tell no time of their own have that of the line before."""
        await self._present()
        sources, in_thread = partial(self._streams, query), self._client.in_thread
        async for line in read_logs(query, sources, self._clock, LOG_PERIOD_S, in_thread):
            yield line

    async def held(self, version: Version) -> Job | None:
        """Return the job that a version runs as, as somebody could hand it in; None without one."""
        held = (await self._present()).jobs.get(job_id(self._settings.prefix, job_name(version)))
        return as_handed_in(held.body) if held is not None and held.numbers else None

    # Reading -------------------------------------------------------------------------------------

    async def _present(self) -> Snapshot:
        snapshot = await self._follower.snapshot()
        self._memory.keep_only(snapshot.allocations)
        return snapshot

    async def _seen(self, snapshot: Snapshot) -> tuple[Seen, ...]:
        listing = await self._registry.watch(0, REGISTRY_LIMIT_S)  # waits for the first list only
        if listing.revision == 0:
            raise Unavailable("the registry has not told yet which servers are ready")
        found = self._replicas(snapshot, listing.servers)
        return tuple(one.unheard(listing.unheard.get(one.replica.api, "")) for one in found)

    def _replicas(self, snapshot: Snapshot, servers: Sequence[Server]) -> tuple[Seen, ...]:
        prefix, reasons = self._settings.prefix, self._explainer.reasons
        return replicas_of(snapshot, prefix, servers, reasons, self._memory.forgotten)

    def _waiting(self) -> tuple[Snapshot, Sequence[Seen]]:
        """Return the replicas that wait for a place, found once for each snapshot."""
        snapshot = self._follower.latest
        if snapshot is not self._looked_at[0]:
            seen = self._replicas(snapshot, ())
            self._looked_at = snapshot, [one for one in seen if one.waits_for_a_place]
        return self._looked_at

    def _streams(self, query: LogQuery) -> list[Stream]:
        """Return where the lines are that a query asks for, in the latest snapshot."""
        found: list[tuple[int, list[Stream]]] = []
        for one in self._follower.latest.allocations:
            name, number = self._name_of(one), number_of(one["TaskGroup"])
            if name is None or number is None or one["ID"] in self._memory.forgotten:
                continue
            replica = replica_id(name, number)
            if takes(query, name.api, name.version, replica):
                streams = streams_of(self._client, replica, name, one)
                found.append((one["CreateIndex"], list(streams)))
        found.sort(key=lambda one: one[0])
        return [stream for _, streams in found[-LOG_ALLOCATIONS:] for stream in streams]

    def _name_of(self, allocation: Mapping[str, Any]) -> JobName | None:
        return parse_id(self._settings.prefix, allocation["JobID"])

    # Writing -------------------------------------------------------------------------------------

    def _heed_epoch(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise Refused(f"epoch {epoch} is over: {self._epoch} has been seen", "fenced")
        self._epoch = epoch

    async def _register(self, job: Job, index: int) -> None:
        try:
            self._follower.wrote(await self._client.register(job, index, self._leading))
        except Refused as error:
            if error.code != "conflict":
                raise
            # It may be an own order whose answer was lost. The next pass sees what is there.
            raise Unavailable(str(error)) from error

    async def _register_new(self, job: Job, index: int) -> None:
        try:
            await self._register(job, index)
        except Refused as error:
            if NO_SUCH_POOL not in str(error):
                raise
            raise Refused(
                f"Nomad has no node pool {job['NodePool']!r}: `nomad node pool list` tells which "
                "there are; name one of them as `nodes.pool`, or start a node in this one",
                "no_such_pool",
            ) from error

    async def _tidy(self) -> None:
        """Take out of the jobs what has failed for good: Nomad would start it again some day.

        It does so when it has forgotten the allocation that failed, hours later. A count that
        somebody gave a replica's group is set back: the scheduler alone says how many there are.
        """
        while True:
            await self._clock.sleep(TIDY_PERIOD_S)
            if not self._leading():
                continue
            async with self._ordering:
                await self._tidy_jobs()

    async def _tidy_jobs(self) -> None:
        try:
            snapshot = await self._present()
        except Unavailable as error:
            log.info("jobs not tidied", extra={"why": str(error)})
            return
        failed = failed_numbers(snapshot, self._settings.prefix)
        untidy = [j for j, held in snapshot.jobs.items() if j in failed or multiplied(held.body)]
        self._untidied = {job: why for job, why in self._untidied.items() if job in untidy}
        # What could not be tidied the last time comes last: it may never be.
        for job in sorted(untidy, key=lambda job: job in self._untidied):
            held = snapshot.jobs[job]
            try:
                await self._register(with_replicas(held.body, (), failed.get(job, ())), held.index)
            except (Refused, Unavailable) as error:
                if self._untidied.get(job) != str(error):
                    log.warning("job not tidied", extra={"job": job, "why": str(error)})
                self._untidied[job] = str(error)
                if isinstance(error, Unavailable) or error.code == "fenced":
                    return  # the others would have to wait for the same


def _number(replica: str, name: JobName) -> int:
    """Return a replica's number; Refused for an id that is not one of this version's."""
    found = parse_replica(replica)
    if found is None or found[0] != name:
        raise Refused(f"{replica!r} cannot be a replica of {name}", "bad_replica_id")
    return found[1]
