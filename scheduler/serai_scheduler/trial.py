"""Whether a version on its way comes to serve, or is given up, and why. Pure."""

import msgspec

from serai.model import Replica, ReplicaState
from serai_scheduler.record import ApiRecord, Candidate, Retiring, begun_replicas, trial_replicas
from serai_scheduler.world import ApiWorld

SECONDS_PER_MINUTE = 60

Events = tuple[tuple[str, dict[str, str]], ...]
"""(message, facts) pairs worth a log line each."""


def judge(world: ApiWorld, record: ApiRecord) -> tuple[ApiRecord, Events]:
    """Return the record with the candidate in place of the stable version, or given up, or as is.

    One that is given up is retired like any old version; nobody else notices.
    """
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
    ready = sum(_is_ready(world, record, r) for r in world.of(candidate.version))
    if ready < trial_replicas(record, candidate.spec):
        return record, ()
    promoted = _retire(record, record.stable, world.now_s) if record.stable else record
    promoted = msgspec.structs.replace(
        promoted,
        stable=candidate.version,
        spec=candidate.spec,
        replicas=begun_replicas(record, candidate.spec),
        candidate=None,
        last_error="",
        failed_version="",
        failed_log=(),
        updated_at_s=world.now_s,
        revision=record.revision + 1,
        in_force_since=record.revision + 1,
    )
    return promoted, (("version serves", {"api": record.name, "version": candidate.version}),)


def _is_ready(world: ApiWorld, record: ApiRecord, replica: Replica) -> bool:
    """Say whether a replica has been ready for long enough to take over from the others.

    Where nothing serves there is nothing to lose, and no reason to wait.
    """
    if replica.state is not ReplicaState.READY:
        return False
    since_s = replica.ready_at_s
    return not record.stable or since_s is None or world.age_s(since_s) >= world.limits.steady_s


def _failure(world: ApiWorld, candidate: Candidate) -> tuple[str, tuple[str, ...]] | None:
    """Return why a candidate cannot come to serve, with the end of the log, or None."""
    if refusal := world.refusals.get(candidate.version):
        return refusal, ()
    replicas = world.of(candidate.version)
    for replica in replicas:
        if replica.state is ReplicaState.FAILED and not replica.telling:
            why = replica.reason or (str(replica.exit) if replica.exit else "it failed")
            return why, replica.log_tail
    age_s, limits = world.age_s(candidate.since_s), world.limits
    stuck = next((r for r in replicas if r.stuck), None)
    if stuck is not None and age_s > limits.stuck_s:
        return stuck.reason, ()
    if age_s > limits.ready_s:
        waiting = [r for r in replicas if r.state is not ReplicaState.READY]
        why = "; ".join(sorted({r.reason or r.state.value for r in waiting})) or world.blind
        return f"not ready within {_in_words(limits.ready_s)}: {why or 'never started'}", ()
    return None


def _in_words(seconds: float) -> str:
    whole = seconds % SECONDS_PER_MINUTE == 0
    return f"{seconds / SECONDS_PER_MINUTE:.0f} min" if whole else f"{seconds:g} s"


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
