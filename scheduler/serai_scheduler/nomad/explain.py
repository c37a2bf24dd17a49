"""Keeps the reasons why replicas have no place: asked of Nomad for those alone, bounded."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from serai.clock import Clock
from serai.errors import Refused, Unavailable
from serai_scheduler.nomad.client import NomadClient
from serai_scheduler.nomad.names import replica_id
from serai_scheduler.nomad.placement import NotPlaced, why_not_placed
from serai_scheduler.nomad.rooms import Room, ask_of, rooms_of
from serai_scheduler.nomad.snapshot import Held, Seen, Snapshot
from serai_scheduler.nomad.where import Asked, asked_of

log = logging.getLogger(__name__)

PERIOD_S = 1.0
ROOMS_PERIOD_S = 3.0
JOBS_AT_ONCE = 4
TURN_LIMIT_S = 10.0

Waiting = Callable[[], tuple[Snapshot, Sequence[Seen]]]
"""Gives the present snapshot and the replicas in it that wait for a place."""


class Explainer:
    """Asks once a second for the evaluations of jobs with replicas that wait for a place.

    A few jobs at a time, those first that were asked for longest ago. Keep `run` going; `changed`
    is called when a reason is another one.
    """

    def __init__(
        self,
        client: NomadClient,
        clock: Clock,
        mhz_per_core: int,
        waiting: Waiting,
        changed: Callable[[], None],
    ) -> None:
        self._client = client
        self._clock = clock
        self._mhz_per_core = mhz_per_core
        self._waiting = waiting
        self._changed = changed
        self._asked_at_s: dict[str, float] = {}
        self._rooms_known: tuple[Room, ...] = ()
        self._rooms_at_s = float("-inf")
        self.reasons: dict[str, NotPlaced] = {}
        """By replica."""

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TURN_LIMIT_S):
                    await self._turn()
            except (Unavailable, Refused, TimeoutError) as error:
                log.info("no reasons from nomad", extra={"why": str(error) or "not in time"})
            await self._clock.sleep(PERIOD_S)

    async def _turn(self) -> None:
        snapshot, replicas = self._waiting()
        waiting: dict[str, set[str]] = {}
        for seen in replicas:
            if seen.job in snapshot.jobs:
                waiting.setdefault(seen.job, set()).add(seen.replica.id)
        ids = {replica for mine in waiting.values() for replica in mine}
        found = {replica: why for replica, why in self.reasons.items() if replica in ids}
        self._asked_at_s = {job: at for job, at in self._asked_at_s.items() if job in waiting}
        if waiting:
            rooms = await self._rooms(snapshot)
            jobs = sorted(waiting, key=lambda job: self._asked_at_s.get(job, float("-inf")))
            for job in jobs[:JOBS_AT_ONCE]:
                self._asked_at_s[job] = self._clock.now()
                evaluations = (await self._client.evaluations(job)).items
                held = snapshot.jobs[job]
                told = await self._with_meta(rooms, asked_of(held.body))
                found |= reasons(held, evaluations, told, waiting[job], self._mhz_per_core)
        if found != self.reasons:
            self.reasons = found
            self._changed()

    async def _with_meta(self, rooms: Sequence[Room], asked: Asked) -> Sequence[Room]:
        """Return the rooms with those entries of the nodes' meta that are asked for.

        Nomad's list of nodes does not tell them, but can be asked for the nodes that have one.
        """
        for key, value in sorted(asked.meta.items()):
            having = await self._client.nodes_with_meta(key, value)
            rooms = [_with(room, key, value) if room.id in having else room for room in rooms]
        return rooms

    async def _rooms(self, snapshot: Snapshot) -> tuple[Room, ...]:
        """Return what is free on each node; of all jobs, not ours alone, and so not often."""
        now_s = self._clock.now()
        if now_s - self._rooms_at_s > ROOMS_PERIOD_S:
            everything = (await self._client.allocations("")).items
            self._rooms_known = rooms_of(snapshot.nodes, everything)
            self._rooms_at_s = now_s
        return self._rooms_known


def _with(room: Room, key: str, value: str) -> Room:
    return msgspec.structs.replace(room, meta={**room.meta, key: value})


def reasons(
    job: Held,
    evaluations: Sequence[Mapping[str, Any]],
    rooms: Sequence[Room],
    replicas: Collection[str],
    mhz_per_core: int,
) -> dict[str, NotPlaced]:
    """Return why these replicas of a job are not placed, of those that Nomad has tried to. Pure."""
    newest_first = sorted(evaluations, key=lambda one: one["ModifyIndex"], reverse=True)
    found: dict[str, NotPlaced] = {}
    where = asked_of(job.body)
    for group in job.body["TaskGroups"]:
        if not group["Name"].isdecimal():
            continue
        replica = replica_id(job.name, int(group["Name"]))
        failed = (one.get("FailedTGAllocs") or {} for one in newest_first)
        metric = next((one[group["Name"]] for one in failed if group["Name"] in one), None)
        if replica in replicas and metric is not None:
            found[replica] = why_not_placed(ask_of(group), rooms, metric, mhz_per_core, where)
    return found
