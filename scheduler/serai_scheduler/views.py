"""What the operator API shows: records, replicas and traffic put together. Pure."""

from collections.abc import Mapping, Sequence

from serai.decisions import ScaleDecision
from serai.model import ApiState, Replica, ReplicaState
from serai.operator import ApiDescription, ApiStatus, ReplicaStatus, StartProgress, VersionStatus
from serai.report import ReplicaUsage
from serai_scheduler.autoscale.explain import metric_away
from serai_scheduler.record import StoredApi, wanted_replicas
from serai_scheduler.status import ready_count, state_of
from serai_scheduler.traffic import TrafficBook

NONE_START: Mapping[str, StartProgress] = {}
AT_REST = (ApiState.LIVE, ApiState.IDLE, ApiState.DELETING)


def status_of(
    stored: StoredApi,
    replicas: Sequence[Replica],
    traffic: TrafficBook,
    now_s: float,
    gateway_url: str,
    blind: str = "",
    refused_reports: str = "",
    decision: ScaleDecision | None = None,
) -> ApiStatus:
    """Return one API as a list shows it; `now_s` is monotonic.

    `blind` is why the engine shows nothing at this moment, "" while it does. `refused_reports` says
    in words whose reports are not taken: what waits for a node or a gateway may wait for that one.
    `decision` is the last one about its count.
    """
    record = stored.record
    waits_for = traffic.waits_for(record.name, record.in_force_since, now_s)
    state, reason = state_of(record, replicas, waits_for)
    if refused_reports and (waits_for or state not in AT_REST):
        reason = f"{reason}; {refused_reports}"
        waits_for = waits_for and f"{waits_for}; {refused_reports}"
    if decision is not None and decision.held_back:
        reason = f"{reason}; the cluster is full for it: {decision.held_back}"
    if decision is not None and (why := metric_away(decision)):
        reason = f"{reason}; its metric is not known, so nothing of it is let go of: {why}"
    if blind:
        reason = f"{reason}; for now nothing is started or stopped: {blind}"
    return ApiStatus(
        name=record.name,
        kind=record.spec.kind,
        state=state,
        reason=reason,
        endpoint=record.spec.endpoint,
        url=gateway_url + record.spec.endpoint,
        version=record.stable,
        candidate=record.candidate.version if record.candidate else "",
        ready=ready_count(record, replicas),
        wanted=wanted_replicas(record, record.spec),
        traffic=traffic.traffic(record.name, now_s),
        updated_at_s=record.updated_at_s,
        last_error=_last_error(stored),
        failed_version=record.failed_version,
        waits_for=waits_for,
        demand=decision.demand if decision is not None else None,
        pinned=record.pinned is not None,
    )


def damaged_status(
    api: str, why: str, replicas: Sequence[Replica], traffic: TrafficBook, now_s: float
) -> ApiStatus:
    """Return an API whose record cannot be read as a list shows it: that it is there, and why."""
    return ApiStatus(
        name=api,
        kind="",
        state=ApiState.ERROR,
        reason=f"it stays as it is: {why}",
        endpoint="",
        url="",
        version="",
        candidate="",
        ready=sum(one.state is ReplicaState.READY for one in replicas),
        wanted=0,
        traffic=traffic.traffic(api, now_s),
        updated_at_s=0.0,
    )


def _last_error(stored: StoredApi) -> str:
    return stored.record.last_error


def description_of(
    stored: StoredApi,
    status: ApiStatus,
    replicas: Sequence[Replica],
    traffic: TrafficBook,
    usage: Mapping[str, ReplicaUsage],
    in_flight: Mapping[str, int],
    now_s: float,
    wall_s: float,
    starts: Mapping[str, StartProgress] = NONE_START,
) -> ApiDescription:
    """Return everything about one API, with its status in it; `now_s` is monotonic.

    `starts` tells by replica how far those have come that start.
    """
    record = stored.record
    versions = sorted(stored.versions.values(), key=lambda v: v.number, reverse=True)
    return ApiDescription(
        status=status,
        spec=record.spec,
        replicas=tuple(
            _replica_status(r, usage.get(r.id), in_flight, starts.get(r.id))
            for r in sorted(replicas, key=lambda r: (not r.alive, -r.created_at_s, r.id))
        ),
        versions=tuple(
            VersionStatus(
                version=version,
                role=role_of(stored, version.name),
                ready=sum(
                    r.version == version.name and r.state is ReplicaState.READY for r in replicas
                ),
                traffic=traffic.traffic(record.name, now_s, version.name),
            )
            for version in versions
        ),
        peak_15_min=traffic.demand.peak(record.name, wall_s),
    )


def _replica_status(
    replica: Replica,
    usage: ReplicaUsage | None,
    in_flight: Mapping[str, int],
    start: StartProgress | None,
) -> ReplicaStatus:
    return ReplicaStatus(
        replica=replica,
        cpu_cores=usage.cpu_cores if usage else None,
        memory_bytes=usage.memory_bytes if usage else None,
        in_flight=in_flight.get(replica.id),
        start=start,
    )


def role_of(stored: StoredApi, version: str) -> str:
    """Return what a version is to its API."""
    record = stored.record
    if version == record.stable:
        return "serving"
    if record.candidate is not None and version == record.candidate.version:
        return "candidate"
    if any(old.version == version for old in record.retiring):
        return "retiring"
    return "failed" if version == record.failed_version else "old"
