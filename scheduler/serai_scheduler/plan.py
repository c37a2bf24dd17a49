"""What to do about one API now: the next record and the orders to the engine. Pure.

The life of an update: the candidate's replicas start beside the old ones; once all are ready the
candidate becomes stable (one route revision moves the traffic); once every gateway has carried
that out and the old version's queue is empty its replicas drain, and each is stopped when nothing
is in flight on it. A candidate that fails is retired the same way and the old version never
noticed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from serai.model import TERMINAL, Replica, ReplicaState
from serai_scheduler.actions import Action, Forget, Start, Stop
from serai_scheduler.autoscale.schedule import bounds_at
from serai_scheduler.drain_time import drain_times, grants
from serai_scheduler.record import (
    ApiRecord,
    Draining,
    Retiring,
    trial_replicas,
    wanted_replicas,
)
from serai_scheduler.retry_after import retry_after_s
from serai_scheduler.trial import Events, judge
from serai_scheduler.world import ApiWorld

RETIRE_LIMIT_S = 150.0
"""How long an old version's queue may keep its replicas from draining: the longest queue timeout
is 120 s, after which nothing can be left in it."""
DRAIN_SLACK_S = 5.0
STOP_GRACE_S = 30.0
FAILURE_MEMORY_S = 600.0
RESTART_DELAY_CAP_S = 60.0
KEEP_VERSIONS = 10
ON_ITS_WAY_OUT = TERMINAL | {ReplicaState.DRAINING}


@dataclass(frozen=True)
class Outcome:
    """What a plan came to; `record` None means that the API is gone for good.

    `events` are (message, facts) pairs worth a log line each.
    """

    record: ApiRecord | None
    actions: tuple[Action, ...] = ()
    events: Events = ()
    drop_versions: tuple[str, ...] = ()


def plan(world: ApiWorld) -> Outcome:
    """Return the next record of the API and the orders that bring the replicas to it."""
    record = world.stored.record
    if record.deleting_since_s is not None:
        return _delete(world)
    record, events = judge(world, _told(world, counted(world, record)))
    # Found once: what the drain puts on its list is a part of the surplus. None is started in its
    # place, and the rest of the surplus stays what it was.
    standings = _standings(world, record)
    surplus = _surplus(world, record, standings)
    record = _drain(world, record, surplus)
    actions: list[Action] = [*_starts(world, record, standings), *_stops(world, record, surplus)]
    actions += grants(world, record)
    record = _settle(world, record)
    return Outcome(record, tuple(actions), events, _superfluous_versions(world, record))


def counted(world: ApiWorld, record: ApiRecord) -> ApiRecord:
    """Return the record with the count to have now: pinned, asked for or as it is, in its bounds.

    What has not served yet keeps the count that it begins with.
    """
    if not record.stable:
        return record
    low, high = bounds_at(record.spec.autoscaling, world.calendar_s)
    count = record.pinned if record.pinned is not None else world.asked
    wanted = min(max(record.replicas if count is None else count, low), high)
    if wanted == record.replicas:
        return record
    return msgspec.structs.replace(record, replicas=wanted)


def _told(world: ApiWorld, record: ApiRecord) -> ApiRecord:
    """Return the record with what refused clients are to be told now.

    The route's revision rises; what waits for an earlier one has that with this one as well.
    """
    wanted_s = retry_after_s(record.retry_after_s, world.start_up_s)
    if wanted_s == record.retry_after_s:
        return record
    return msgspec.structs.replace(record, retry_after_s=wanted_s, revision=record.revision + 1)


def check(world: ApiWorld, outcome: Outcome) -> None:
    """Assert what must hold of every plan; a broken invariant ends the process."""
    started = [action.replica for action in outcome.actions if isinstance(action, Start)]
    assert len(started) == len(set(started)), "a replica is started twice"
    assert not any(one in world.by_id for one in started), "a replica that exists is started"
    record, before = outcome.record, world.stored.record
    if record is None:
        assert not any(r.alive for r in world.replicas), "gone while a replica lives"
        return
    if before.stable and record.deleting_since_s is None:
        assert record.stable, "an API that served lost its stable version"
    if record.deleting_since_s is None and before.stable == record.stable:
        _check_serving(world, outcome, record)


def _check_serving(world: ApiWorld, outcome: Outcome, record: ApiRecord) -> None:
    """Assert that some ready replica of the stable version stays when others are to go."""
    stopped = {action.replica for action in outcome.actions if isinstance(action, Stop)}
    going = stopped | {entry.replica for entry in record.draining}
    newly = going - {entry.replica for entry in world.stored.record.draining}
    if not newly or wanted_replicas(record, record.spec) == 0:
        return
    serving = [r for r in world.of(record.stable) if r.state is ReplicaState.READY]
    untouched = any(r.id not in going for r in serving)
    ended = any(r.id in newly and r.node not in world.leaving.overdue for r in serving)
    assert untouched or not ended, "every ready replica of the stable version would go"


@dataclass(frozen=True)
class Standing:
    """The replicas of a version that are not on their way out, and how many it shall have.

    `live` count towards `wanted`; `displaced` serve until there are others, for their nodes are to
    be empty.
    """

    version: str
    wanted: int
    live: Sequence[Replica]
    displaced: Sequence[Replica]


def _standings(world: ApiWorld, record: ApiRecord) -> list[Standing]:
    standings: list[Standing] = []
    for version, wanted in _targets(world, record):
        staying = _staying(world, record, version)
        live = [r for r in staying if r.node not in world.leaving.nodes]
        displaced = [r for r in staying if r.node in world.leaving.nodes]
        standings.append(Standing(version, wanted, live, displaced))
    return standings


def _staying(world: ApiWorld, record: ApiRecord, version: str) -> list[Replica]:
    draining = {entry.replica for entry in record.draining}
    return [r for r in world.of(version) if r.state not in ON_ITS_WAY_OUT and r.id not in draining]


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


def _starts(world: ApiWorld, record: ApiRecord, standings: Sequence[Standing]) -> list[Start]:
    starts: list[Start] = []
    for one in standings:
        missing = one.wanted - len(one.live)
        if missing > 0 and world.now_s >= _restart_at_s(world, one.version):
            ids = _fresh_ids(world, one.version, missing)
            made, drain_s = world.stored.versions[one.version], drain_times(record)[one.version]
            starts += [Start(replica, made, drain_s) for replica in ids]
    return starts


def _fresh_ids(world: ApiWorld, version: str, count: int) -> list[str]:
    prefix = f"{world.stored.record.name}.{version}."
    taken = [int(r.id.removeprefix(prefix)) for r in world.replicas if r.id.startswith(prefix)]
    first = max(taken, default=0) + 1
    return [f"{prefix}{number}" for number in range(first, first + count)]


def _restart_at_s(world: ApiWorld, version: str) -> float:
    """Return when a version may be started again: later with every failure of late."""
    ended = [world.failed_at_s[r.id] for r in world.of(version) if r.id in world.failed_at_s]
    late = [at_s for at_s in ended if world.now_s - at_s < FAILURE_MEMORY_S]
    if len(late) < 2:
        return 0.0
    return max(late) + min(RESTART_DELAY_CAP_S, 2.0 ** (len(late) - 1))


# Draining and stopping ---------------------------------------------------------------------------


def _drain(world: ApiWorld, record: ApiRecord, surplus: Sequence[Replica]) -> ApiRecord:
    """Put those that are to go and may have requests on the draining list."""
    leaving = [r for r in surplus if _may_be_busy(world, r)]
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


def _surplus(world: ApiWorld, record: ApiRecord, standings: Sequence[Standing]) -> list[Replica]:
    """Return the replicas beyond what each version shall have: the least useful first."""
    surplus: list[Replica] = []
    for one in standings:
        if len(one.live) > one.wanted:
            surplus += _least_useful(world, one.live)[: len(one.live) - one.wanted]
        if one.displaced:
            surplus += _dispensable(world, one)
    for old in record.retiring:
        if _may_drain(world, old):
            surplus += _staying(world, record, old.version)
    return surplus


def _dispensable(world: ApiWorld, one: Standing) -> list[Replica]:
    """Return which of those on leaving nodes may go: as many as are ready in their place.

    One that is not ready for the moment serves again by and by, so it stays until enough others do.
    """
    waiting = [r for r in one.displaced if r.node not in world.leaving.overdue]
    ready = sum(r.state is ReplicaState.READY for r in (*one.live, *waiting))
    enough = ready >= one.wanted
    unready = [r for r in waiting if r.state is not ReplicaState.READY]
    useless = sum(enough or not _may_be_busy(world, r) for r in unready)
    overdue = [r for r in one.displaced if r.node in world.leaving.overdue]
    return overdue + _least_useful(world, waiting)[: max(0, ready - one.wanted) + useless]


def _least_useful(world: ApiWorld, replicas: Sequence[Replica]) -> list[Replica]:
    """Return the least useful first: what is ready is worth more, what is older is warmer."""

    def usefulness(one: Replica) -> tuple[bool, bool, float, str]:
        ready = one.state is ReplicaState.READY
        return (ready, _may_be_busy(world, one), -one.created_at_s, one.id)

    return sorted(replicas, key=usefulness)


def _may_be_busy(world: ApiWorld, replica: Replica) -> bool:
    """Say whether requests may be in flight on a replica.

    One that was ready before may have them although its check fails for the moment; whether it
    was, a scheduler that has just begun to lead does not know, but the gateways do.
    """
    if replica.state is ReplicaState.READY or replica.ready_at_s is not None or replica.servers:
        return True
    unknown = replica.state is ReplicaState.LOADING and not world.gateways.known
    return unknown or not _idle(world, replica)


def _may_drain(world: ApiWorld, old: Retiring) -> bool:
    """Say whether nothing can reach a retired version any more, nor waits in its queue.

    A queue whose servers all drain is served by nobody, so it must be empty first.
    """
    if world.age_s(old.since_s) > RETIRE_LIMIT_S:
        return True
    api = world.stored.record.name
    carried_out = world.gateways.known and world.gateways.revisions.get(api, -1) >= old.revision
    return carried_out and world.gateways.queued.get((api, old.version), 0) == 0


def _stops(world: ApiWorld, record: ApiRecord, surplus: Sequence[Replica]) -> list[Stop]:
    """Stop what has drained, and at once what has no traffic."""
    stops = [
        Stop(entry.replica, STOP_GRACE_S)
        for entry in record.draining
        if (replica := world.by_id.get(entry.replica)) is not None
        and replica.state not in ON_ITS_WAY_OUT
        and _drained(world, record, entry, replica)
    ]
    return stops + [Stop(r.id, STOP_GRACE_S) for r in surplus if not _may_be_busy(world, r)]


def _drained(world: ApiWorld, record: ApiRecord, entry: Draining, replica: Replica) -> bool:
    limit_s = max(record.spec.timeouts.total.seconds, entry.total_s) + DRAIN_SLACK_S
    if world.age_s(entry.since_s) > limit_s:
        return True
    gateways = world.gateways
    if not gateways.known or gateways.revisions.get(record.name, -1) < entry.revision:
        return False
    return _idle(world, replica)


def _settle(world: ApiWorld, record: ApiRecord) -> ApiRecord:
    """Forget draining entries and retired versions that have come to their end."""
    if not record.draining and not record.retiring:
        return record
    alive = {r.id for r in world.replicas if r.alive}
    draining = tuple(entry for entry in record.draining if entry.replica in alive)
    busy = {r.version for r in world.replicas if r.alive}
    retiring = tuple(old for old in record.retiring if old.version in busy)
    if len(draining) == len(record.draining) and len(retiring) == len(record.retiring):
        return record
    revision = record.revision + (len(draining) != len(record.draining))
    return msgspec.structs.replace(record, draining=draining, retiring=retiring, revision=revision)


def _superfluous_versions(world: ApiWorld, record: ApiRecord) -> tuple[str, ...]:
    if len(world.stored.versions) <= KEEP_VERSIONS:
        return ()
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
    if world.age_s(record.deleting_since_s) > limit_s:
        return True
    gone = gateways.known and record.name not in gateways.routed
    waits = any(gateways.queued.get((record.name, one), 0) for one in world.stored.versions)
    return gone and not waits and _idle(world, replica)


def _idle(world: ApiWorld, replica: Replica) -> bool:
    """Say whether no gateway has anything in flight on a replica."""
    return world.gateways.in_flight.get(replica.id, 0) == 0
