"""What Nomad holds at one moment, and the replicas that this is. Pure.

A replica is a task group of a version's job, called by its number. Its newest allocation tells what
it does; without one it waits for a place. Ended ones are known for as long as Nomad keeps both
their allocation and the job that they are from.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from serai.ended import surplus
from serai.model import TERMINAL, Replica, ReplicaState, Server
from serai_scheduler.nomad.job import numbers_of
from serai_scheduler.nomad.names import JobName, number_of, parse_id, replica_id
from serai_scheduler.nomad.placement import NotPlaced
from serai_scheduler.nomad.reading import has_left, replica_of
from serai_scheduler.nomad.text import NANOSECONDS

ENDED_KEPT_PER_API = 10
NOT_PLACED_YET = "asked for; Nomad has not placed it yet"

Allocation = Mapping[str, Any]


@dataclass(frozen=True)
class Held:
    """A version's job as Nomad holds it; `index` is what a change of it has to name."""

    name: JobName
    index: int
    created_index: int
    asked_at_s: float
    numbers: frozenset[int]
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """All of our jobs by their ids, the allocations of them and of ended ones, and the nodes."""

    jobs: Mapping[str, Held] = field(default_factory=dict)
    allocations: tuple[Allocation, ...] = ()
    nodes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Seen:
    """A replica and the allocation that tells of it, None before it has one."""

    job: str
    replica: Replica
    allocation: Allocation | None

    @property
    def waits_for_a_place(self) -> bool:
        pending = self.replica.state is ReplicaState.PENDING
        return pending and (self.allocation is None or has_left(self.allocation))

    def unheard(self, why: str) -> "Seen":
        """Return it as one of which nobody can tell whether its check passes, "" for known.

        Of one that does not run yet, or no more, Nomad tells that it does not.
        """
        if not why or self.replica.state is not ReplicaState.LOADING:
            return self
        reason = f"whether it is ready is not known: {why}"
        unknown = msgspec.structs.replace(self.replica, unheard=why, reason=reason)
        return replace(self, replica=unknown)


def held(body: Mapping[str, Any], name: JobName) -> Held:
    """Return a job from its body as Nomad gives it."""
    return Held(
        name=name,
        index=body["JobModifyIndex"],
        created_index=body["CreateIndex"],
        asked_at_s=(body.get("SubmitTime") or 0) / NANOSECONDS,
        numbers=numbers_of(body),
        body=body,
    )


def replicas_of(
    snapshot: Snapshot,
    prefix: str,
    servers: Sequence[Server],
    reasons: Mapping[str, NotPlaced],
    forgotten: Collection[str] = (),
) -> tuple[Seen, ...]:
    """Return all replicas that live, and the last ended ones of each API.

    `reasons` says by replica why it is not placed; `forgotten` holds the ids of ended allocations
    that are of no interest any more.
    """
    ready: dict[str, list[Server]] = {}
    for server in servers:
        ready.setdefault(server.replica, []).append(server)
    seen: list[Seen] = []
    newest = _newest(snapshot, prefix, forgotten)
    for (job, number), (name, allocation) in newest.items():
        wanted = job in snapshot.jobs and number in snapshot.jobs[job].numbers
        mine = ready.get(replica_id(name, number), ())
        one = Seen(job, replica_of(allocation, name, number, wanted, mine), allocation)
        seen.append(_explained(one, reasons))
    for job, kept in snapshot.jobs.items():
        for number in sorted(kept.numbers):
            if (job, number) not in newest:
                seen.append(_explained(Seen(job, _without_place(kept, number), None), reasons))
    return _without_surplus(seen)


def failed_numbers(snapshot: Snapshot, prefix: str) -> dict[str, frozenset[int]]:
    """Return, by job, the replicas that have failed for good and whose groups are still there."""
    found: dict[str, set[int]] = {}
    for (job, number), (_, allocation) in _newest(snapshot, prefix, ()).items():
        again = allocation.get("NextAllocation") or allocation.get("FollowupEvalID")
        failed = allocation["ClientStatus"] == "failed" and not has_left(allocation) and not again
        if failed and job in snapshot.jobs and number in snapshot.jobs[job].numbers:
            found.setdefault(job, set()).add(number)
    return {job: frozenset(numbers) for job, numbers in found.items()}


def _newest(
    snapshot: Snapshot, prefix: str, forgotten: Collection[str]
) -> dict[tuple[str, int], tuple[JobName, Allocation]]:
    """Return the newest allocation of each replica, but for what ended before its job was made."""
    newest: dict[tuple[str, int], tuple[JobName, Allocation]] = {}
    for allocation in snapshot.allocations:
        job, number = allocation["JobID"], number_of(allocation["TaskGroup"])
        name = parse_id(prefix, job)
        if name is None or number is None or allocation["ID"] in forgotten:
            continue
        mine = snapshot.jobs.get(job)
        if has_ended(allocation) and (
            mine is None or allocation["CreateIndex"] < mine.created_index
        ):
            continue
        before = newest.get((job, number))
        if before is None or _age(before[1]) < _age(allocation):
            newest[job, number] = name, allocation
    return newest


def has_ended(allocation: Allocation) -> bool:
    return allocation["ClientStatus"] in ("complete", "failed", "lost")


def _age(allocation: Allocation) -> tuple[bool, int, str]:
    """Return what is larger for the allocation that tells more of a replica.

    One that is to run and does is worth more than a later one: somebody may have given a group a
    count by hand, and taken it back, which ends the later ones.
    """
    return is_to_run(allocation), allocation["CreateIndex"], allocation["ID"]


def is_to_run(allocation: Allocation) -> bool:
    """Say whether it lives and is wanted to."""
    alive = allocation["ClientStatus"] in ("pending", "running")
    return alive and allocation["DesiredStatus"] == "run"


def _without_place(job: Held, number: int) -> Replica:
    return Replica(
        id=replica_id(job.name, number),
        api=job.name.api,
        version=job.name.version,
        node="",
        state=ReplicaState.PENDING,
        reason=NOT_PLACED_YET,
        created_at_s=job.asked_at_s,
    )


def _explained(seen: Seen, reasons: Mapping[str, NotPlaced]) -> Seen:
    why = reasons.get(seen.replica.id)
    if why is None or not seen.waits_for_a_place:
        return seen
    told = msgspec.structs.replace(seen.replica, reason=why.reason, stuck=not why.may_clear)
    return replace(seen, replica=told)


def _without_surplus(seen: Sequence[Seen]) -> tuple[Seen, ...]:
    """Leave out all but the last ended replicas of each API."""
    ended: dict[str, list[Replica]] = {}
    for one in seen:
        if one.replica.state in TERMINAL:
            ended.setdefault(one.replica.api, []).append(one.replica)
    gone = {r.id for mine in ended.values() for r in surplus(mine, ENDED_KEPT_PER_API)}
    return tuple(one for one in seen if one.replica.id not in gone)
