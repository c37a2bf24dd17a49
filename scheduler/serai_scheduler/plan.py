"""What to do about one API now: the next record and the orders to the engine. Pure.

The life of an update: the candidate's replicas start beside the old ones; once all are ready the
candidate becomes stable (one route revision moves the traffic); once every gateway has carried
that out and the old version's queue is empty its replicas drain, and each is stopped when nothing
is in flight on it. A candidate that fails is retired the same way and the old version never
noticed.
"""

from dataclasses import dataclass

import msgspec

from serai.model import Replica, ReplicaState, Version
from serai_scheduler.record import (
    ApiRecord,
    Candidate,
    Draining,
    Retiring,
    trial_replicas,
    wanted_replicas,
)
from serai_scheduler.world import ApiWorld

CANDIDATE_LIMIT_S = 1800.0
"""How long a candidate may take until all its replicas are ready."""
RETIRE_LIMIT_S = 150.0
"""How long an old version's queue may keep its replicas from draining: the longest queue timeout
is 120 s, after which nothing can be left in it."""
DRAIN_SLACK_S = 5.0
STOP_GRACE_S = 30.0
FAILURE_MEMORY_S = 600.0
RESTART_DELAY_CAP_S = 60.0
KEEP_VERSIONS = 10


@dataclass(frozen=True)
class Start:
    """Start a replica of a version."""

    replica: str
    version: Version


@dataclass(frozen=True)
class Stop:
    """End a replica that gets no requests any more."""

    replica: str
    grace_s: float


@dataclass(frozen=True)
class Forget:
    """Remove what the engine still keeps of a deleted API."""

    api: str


Action = Start | Stop | Forget


@dataclass(frozen=True)
class Outcome:
    """What a plan came to; `record` None means that the API is gone for good.

    `events` are (message, facts) pairs worth a log line each.
    """

    record: ApiRecord | None
    actions: tuple[Action, ...] = ()
    events: tuple[tuple[str, dict[str, str]], ...] = ()
    drop_versions: tuple[str, ...] = ()


def plan(world: ApiWorld) -> Outcome:
    """Return the next record of the API and the orders that bring the replicas to it."""
    record = world.stored.record
    if record.deleting_since_s is not None:
        return _delete(world)
    record, events = _judge_candidate(world, record)
    record = _drain(world, record)
    actions: list[Action] = [*_starts(world, record), *_stops(world, record)]
    record = _settle(world, record)
    return Outcome(record, tuple(actions), events, _superfluous_versions(world, record))


def check(world: ApiWorld, outcome: Outcome) -> None:
    """Assert what must hold of every plan; a broken invariant ends the process."""
    known = {replica.id for replica in world.replicas}
    started = [action.replica for action in outcome.actions if isinstance(action, Start)]
    assert len(started) == len(set(started)), "a replica is started twice"
    assert not known & set(started), "a replica that exists is started"
    record, before = outcome.record, world.stored.record
    if record is None:
        assert not any(r.alive for r in world.replicas), "gone while a replica lives"
        return
    if before.stable and record.deleting_since_s is None:
        assert record.stable, "an API that served lost its stable version"
    stopped = {action.replica for action in outcome.actions if isinstance(action, Stop)}
    serving = [r for r in _of(world, record.stable) if r.state is ReplicaState.READY]
    draining = {entry.replica for entry in record.draining}
    untouched = [r for r in serving if r.id not in stopped | draining]
    wanted = wanted_replicas(record, record.spec)
    if record.deleting_since_s is None and serving and before.stable == record.stable:
        earlier = {entry.replica for entry in before.draining}
        newly = [r for r in serving if r.id in (stopped | draining) - earlier]
        assert untouched or not newly or wanted == 0, (
            "every ready replica of the stable version would go"
        )


def _of(world: ApiWorld, version: str) -> tuple[Replica, ...]:
    return tuple(r for r in world.replicas if r.version == version and version)


def _live(world: ApiWorld, record: ApiRecord, version: str) -> list[Replica]:
    """Return the replicas of a version that count towards its target."""
    leaving = {entry.replica for entry in record.draining}
    return [
        r
        for r in _of(world, version)
        if r.alive and r.state is not ReplicaState.DRAINING and r.id not in leaving
    ]


# The candidate -----------------------------------------------------------------------------------


def _judge_candidate(
    world: ApiWorld, record: ApiRecord
) -> tuple[ApiRecord, tuple[tuple[str, dict[str, str]], ...]]:
    candidate = record.candidate
    if candidate is None:
        return record, ()
    if (failure := _failure(world, candidate)) is not None:
        why, log = failure
        failed = msgspec.structs.replace(
            _retire(record, candidate.version, world.now_s),
            candidate=None,
            last_error=why,
            failed_version=candidate.version,
            failed_log=log,
            updated_at_s=world.now_s,
        )
        facts = {"api": record.name, "version": candidate.version, "why": why}
        return failed, (("update failed", facts),)
    ready = [r for r in _of(world, candidate.version) if r.state is ReplicaState.READY]
    if len(ready) < trial_replicas(record, candidate.spec):
        return record, ()
    promoted = _retire(record, record.stable, world.now_s) if record.stable else record
    promoted = msgspec.structs.replace(
        promoted,
        stable=candidate.version,
        spec=candidate.spec,
        replicas=wanted_replicas(record, candidate.spec),
        candidate=None,
        last_error="",
        failed_version="",
        failed_log=(),
        updated_at_s=world.now_s,
        revision=record.revision + 1,
    )
    return promoted, (("version serves", {"api": record.name, "version": candidate.version}),)


def _failure(world: ApiWorld, candidate: Candidate) -> tuple[str, tuple[str, ...]] | None:
    """Return why a candidate cannot come to serve, with the end of the log, or None."""
    if refusal := world.refusals.get(candidate.version):
        return refusal, ()
    for replica in _of(world, candidate.version):
        if replica.state is ReplicaState.FAILED:
            why = replica.reason or (str(replica.exit) if replica.exit else "it failed")
            return why, replica.log_tail
    if world.now_s - candidate.since_s > CANDIDATE_LIMIT_S:
        waiting = [r for r in _of(world, candidate.version) if r.state is not ReplicaState.READY]
        why = "; ".join(sorted({r.reason or r.state.value for r in waiting}))
        return f"not ready within {CANDIDATE_LIMIT_S / 60:.0f} min: {why}", ()
    return None


def _retire(record: ApiRecord, version: str, now_s: float) -> ApiRecord:
    """Let a version go; its replicas drain once the gateways have carried out the new revision."""
    revision = record.revision + 1
    gone = Retiring(
        version=version,
        since_s=now_s,
        revision=revision,
        total_s=record.spec.timeouts.total.seconds,
    )
    kept = tuple(old for old in record.retiring if old.version != version)
    return msgspec.structs.replace(record, retiring=(*kept, gone), revision=revision)


# Starting ----------------------------------------------------------------------------------------


def _targets(world: ApiWorld, record: ApiRecord) -> list[tuple[str, int]]:
    """Return how many replicas each version shall have."""
    targets: list[tuple[str, int]] = []
    if record.stable:
        wanted = wanted_replicas(record, record.spec)
        # A queue that no replica takes from is refused by and by.
        waits = world.gateways.queued.get((record.name, record.stable), 0) > 0
        targets.append((record.stable, max(wanted, 1) if waits else wanted))
    if record.candidate:
        trial = trial_replicas(record, record.candidate.spec)
        targets.append((record.candidate.version, trial))
    return targets


def _starts(world: ApiWorld, record: ApiRecord) -> list[Start]:
    starts: list[Start] = []
    for version, wanted in _targets(world, record):
        missing = wanted - len(_live(world, record, version))
        if missing > 0 and world.now_s >= _restart_at_s(world, version):
            ids = _fresh_ids(world, version, missing)
            starts += [Start(replica, world.stored.versions[version]) for replica in ids]
    return starts


def _fresh_ids(world: ApiWorld, version: str, count: int) -> list[str]:
    prefix = f"{world.stored.record.name}.{version}."
    taken = [int(r.id.removeprefix(prefix)) for r in world.replicas if r.id.startswith(prefix)]
    first = max(taken, default=0) + 1
    return [f"{prefix}{number}" for number in range(first, first + count)]


def _restart_at_s(world: ApiWorld, version: str) -> float:
    """Return when a version may be started again: later with every failure of late."""
    ended = [
        r.ended_at_s
        for r in _of(world, version)
        if r.state is ReplicaState.FAILED
        and r.ended_at_s is not None
        and world.now_s - r.ended_at_s < FAILURE_MEMORY_S
    ]
    if len(ended) < 2:
        return 0.0
    return max(ended) + min(RESTART_DELAY_CAP_S, 2.0 ** (len(ended) - 1))


# Draining and stopping ---------------------------------------------------------------------------


def _drain(world: ApiWorld, record: ApiRecord) -> ApiRecord:
    """Put the ready replicas that are to go on the draining list."""
    leaving = [r for r in _surplus(world, record) if r.state is ReplicaState.READY]
    if not leaving:
        return record
    revision = record.revision + 1
    limits_s = {old.version: old.total_s for old in record.retiring}
    entries = tuple(
        Draining(
            replica=r.id,
            since_s=world.now_s,
            revision=revision,
            total_s=limits_s.get(r.version, 0.0),
        )
        for r in leaving
    )
    return msgspec.structs.replace(record, draining=(*record.draining, *entries), revision=revision)


def _surplus(world: ApiWorld, record: ApiRecord) -> list[Replica]:
    """Return the replicas beyond what each version shall have: the least useful first."""
    surplus: list[Replica] = []
    for version, wanted in _targets(world, record):
        live = sorted(_live(world, record, version), key=_usefulness)
        surplus += live[: max(0, len(live) - wanted)]
    for old in record.retiring:
        if _may_drain(world, old):
            surplus += _live(world, record, old.version)
    return surplus


def _usefulness(replica: Replica) -> tuple[bool, float, str]:
    # A replica that is ready is worth more than one that is not; an older one is warmer.
    return (replica.state is ReplicaState.READY, -replica.created_at_s, replica.id)


def _may_drain(world: ApiWorld, old: Retiring) -> bool:
    """Say whether nothing can reach a retired version any more, nor waits in its queue.

    A queue whose servers all drain is served by nobody, so it must be empty first.
    """
    if world.now_s - old.since_s > RETIRE_LIMIT_S:
        return True
    api = world.stored.record.name
    carried_out = world.gateways.known and world.gateways.revisions.get(api, -1) >= old.revision
    return carried_out and world.gateways.queued.get((api, old.version), 0) == 0


def _stops(world: ApiWorld, record: ApiRecord) -> list[Stop]:
    """Stop what has drained, and at once what never took traffic."""
    by_id = {r.id: r for r in world.replicas}
    stops = [
        Stop(entry.replica, STOP_GRACE_S)
        for entry in record.draining
        if (replica := by_id.get(entry.replica)) is not None
        and replica.alive
        and replica.state is not ReplicaState.DRAINING
        and _drained(world, record, entry, replica)
    ]
    never_ready = [r for r in _surplus(world, record) if r.state is not ReplicaState.READY]
    return stops + [Stop(r.id, STOP_GRACE_S) for r in never_ready]


def _drained(world: ApiWorld, record: ApiRecord, entry: Draining, replica: Replica) -> bool:
    limit_s = max(record.spec.timeouts.total.seconds, entry.total_s) + DRAIN_SLACK_S
    if world.now_s - entry.since_s > limit_s:
        return True
    gateways = world.gateways
    if not gateways.known or gateways.revisions.get(record.name, -1) < entry.revision:
        return False
    return _idle(world, replica)


def _settle(world: ApiWorld, record: ApiRecord) -> ApiRecord:
    """Forget draining entries and retired versions that have come to their end."""
    alive = {r.id for r in world.replicas if r.alive}
    draining = tuple(entry for entry in record.draining if entry.replica in alive)
    busy = {r.version for r in world.replicas if r.alive}
    retiring = tuple(old for old in record.retiring if old.version in busy)
    if len(draining) == len(record.draining) and len(retiring) == len(record.retiring):
        return record
    revision = record.revision + (len(draining) != len(record.draining))
    return msgspec.structs.replace(record, draining=draining, retiring=retiring, revision=revision)


def _superfluous_versions(world: ApiWorld, record: ApiRecord) -> tuple[str, ...]:
    kept = set(record.versions)
    by_age = sorted(world.stored.versions.values(), key=lambda v: v.number, reverse=True)
    old = [v.name for v in by_age if v.name not in kept and v.name != record.failed_version]
    return tuple(old[KEEP_VERSIONS:])


# Deleting ----------------------------------------------------------------------------------------


def _delete(world: ApiWorld) -> Outcome:
    """End every replica once no gateway routes to it and nothing is in flight on it."""
    record = world.stored.record
    alive = [r for r in world.replicas if r.alive]
    if not alive:
        return Outcome(
            None,
            (Forget(record.name),),
            (("api deleted", {"api": record.name}),),
            tuple(world.stored.versions),
        )
    stops = [
        Stop(r.id, STOP_GRACE_S)
        for r in alive
        if r.state is not ReplicaState.DRAINING and _unreachable(world, r)
    ]
    return Outcome(record, tuple(stops))


def _unreachable(world: ApiWorld, replica: Replica) -> bool:
    record, gateways = world.stored.record, world.gateways
    assert record.deleting_since_s is not None
    limit_s = record.spec.timeouts.total.seconds + DRAIN_SLACK_S
    if world.now_s - record.deleting_since_s > limit_s:
        return True
    gone = gateways.known and record.name not in gateways.routed
    waits = any(count for (api, _), count in gateways.queued.items() if api == record.name)
    return gone and not waits and _idle(world, replica)


def _idle(world: ApiWorld, replica: Replica) -> bool:
    """Say whether no gateway has anything in flight on a replica."""
    in_flight = world.gateways.in_flight
    mine = [server for server in in_flight if server.rpartition(".")[0] == replica.id]
    return all(in_flight[server] == 0 for server in mine)
