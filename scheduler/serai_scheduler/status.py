"""What an API is like, told in words: a pure function of its record and its replicas."""

from collections.abc import Sequence
from datetime import UTC, datetime

from serai.model import ApiState, Replica, ReplicaState
from serai.operator import ALL_READY, SCALED_TO_ZERO
from serai_scheduler.record import ApiRecord, trial_replicas, wanted_replicas
from serai_scheduler.taking import NO_GATEWAY, NOT_HEARD_YET

NEWS_TOLD = 5


def state_of(
    record: ApiRecord, replicas: Sequence[Replica], waits_for: str = ""
) -> tuple[ApiState, str]:
    """Return the state of an API and the reason for it.

    `waits_for` says what keeps callers from what is in force though its replicas are ready.
    """
    if record.deleting_since_s is not None:
        left = sum(r.alive for r in replicas)
        return ApiState.DELETING, f"{left} replicas still end"
    if record.candidate is not None:
        return ApiState.UPDATING, _progress(record, replicas)
    if not record.stable:
        return ApiState.ERROR, record.last_error or "no version has ever been ready"
    ready, wanted = ready_count(record, replicas), wanted_replicas(record, record.spec)
    if ready >= wanted and waits_for not in ("", NOT_HEARD_YET):
        state = ApiState.DEGRADED if waits_for == NO_GATEWAY else ApiState.UPDATING
        return state, f"{ready} of {wanted} replicas ready; {waits_for}"
    if wanted == 0 and ready == 0:
        return ApiState.IDLE, SCALED_TO_ZERO
    if ready >= wanted:
        news = [f"{r.id} {r.reason}" for r in serving(record, replicas) if r.reason]
        if ended := _ended(record, replicas):
            news.insert(0, ended)
        if record.last_error:
            news.append(f"{record.failed_version} failed: {record.last_error}")
        return ApiState.LIVE, "; ".join([ALL_READY, *news[:NEWS_TOLD]])
    failing = _newest_failure(record, replicas)
    state = _state_of_fewer(record, replicas, ready, failing)
    why = f": {failing}" if failing else f": {_waiting(record.stable, replicas)}"
    return state, f"{ready} of {wanted} replicas ready{why}"


def _state_of_fewer(
    record: ApiRecord, replicas: Sequence[Replica], ready: int, failing: str
) -> ApiState:
    """Return the state of an API with fewer replicas than it shall have.

    One that grows or wakes up is as it should be, as long as nothing keeps the rest from coming.
    """
    if failing:
        return ApiState.DEGRADED if ready else ApiState.ERROR
    least = record.spec.autoscaling.min_replicas
    has_no_place = any(
        r.version == record.stable and r.state is ReplicaState.PENDING and r.reason and not r.node
        for r in replicas
    )
    if has_no_place or ready < least:
        return ApiState.DEGRADED
    return ApiState.LIVE if ready else ApiState.IDLE


def ready_count(record: ApiRecord, replicas: Sequence[Replica]) -> int:
    """Return how many replicas of the serving version take traffic."""
    return len(serving(record, replicas))


def serving(record: ApiRecord, replicas: Sequence[Replica]) -> list[Replica]:
    """Return the replicas of the serving version that take traffic."""
    leaving = {entry.replica for entry in record.draining}
    return [
        r
        for r in replicas
        if r.version == record.stable and r.state is ReplicaState.READY and r.id not in leaving
    ]


def _progress(record: ApiRecord, replicas: Sequence[Replica]) -> str:
    assert record.candidate is not None
    name = record.candidate.version
    wanted = trial_replicas(record, record.candidate.spec)
    ready = sum(r.version == name and r.state is ReplicaState.READY for r in replicas)
    doing = _waiting(name, replicas)
    if ready >= wanted and record.stable:
        doing = "watched for a moment before callers come to them"
    return f"{name}: {ready} of {wanted} replicas ready, {doing}"


def _waiting(version: str, replicas: Sequence[Replica]) -> str:
    """Say what the replicas that are not ready are doing, each thing once with its count."""
    doing: dict[str, int] = {}
    for replica in replicas:
        if replica.version == version and replica.alive and replica.state != ReplicaState.READY:
            text = f"{replica.state.value} ({replica.reason})" if replica.reason else replica.state
            doing[text] = doing.get(text, 0) + 1
    if doing:
        return ", ".join(f"{count} {text}" for text, count in sorted(doing.items()))
    ready = any(r.version == version and r.state is ReplicaState.READY for r in replicas)
    return "taking over the traffic" if ready else "starting soon"


def _ended(record: ApiRecord, replicas: Sequence[Replica]) -> str:
    """Say how many replicas of what serves have failed of late, and how the last one did."""
    failed = [r for r in replicas if r.version == record.stable and r.state is ReplicaState.FAILED]
    if not failed:
        return ""
    last = max(r.ended_at_s or 0.0 for r in failed)
    when = f", the last at {datetime.fromtimestamp(last, UTC):%H:%M:%S} UTC" if last else ""
    many = f"{len(failed)} replicas" if len(failed) > 1 else "1 replica"
    return f"{many} failed and were replaced{when}: {_newest_failure(record, replicas)}"


def _newest_failure(record: ApiRecord, replicas: Sequence[Replica]) -> str:
    failed = [r for r in replicas if r.version == record.stable and r.state is ReplicaState.FAILED]
    if not failed:
        return ""
    newest = max(failed, key=lambda r: r.ended_at_s or 0.0)
    return newest.reason or (str(newest.exit) if newest.exit else "a replica failed")
