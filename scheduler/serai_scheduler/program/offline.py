"""What can be told of APIs while nobody leads: what the store keeps, and no more. Pure."""

from serai.model import ApiState
from serai.operator import ApiDescription, ApiStatus, Traffic, VersionStatus
from serai_scheduler.record import StoredApi, wanted_replicas
from serai_scheduler.views import role_of

REASON = "no leader can be asked at this moment: what runs is not known; requests are served"


def stored_status(stored: StoredApi, gateway_url: str, why_not: str = "") -> ApiStatus:
    """Return one API as a list shows it; `why_not` is why nobody leads, where that is known."""
    record = stored.record
    return ApiStatus(
        name=record.name,
        kind=record.spec.kind,
        state=ApiState.UNKNOWN,
        reason=f"{REASON}; {why_not}" if why_not else REASON,
        endpoint=record.spec.endpoint,
        url=gateway_url + record.spec.endpoint,
        version=record.stable,
        candidate=record.candidate.version if record.candidate else "",
        ready=0,
        wanted=wanted_replicas(record, record.spec),
        traffic=Traffic(),
        updated_at_s=record.updated_at_s,
        last_error=record.last_error,
        failed_version=record.failed_version,
    )


def stored_description(stored: StoredApi, gateway_url: str, why_not: str = "") -> ApiDescription:
    """Return what is stored of one API, its versions from the newest on."""
    versions = sorted(stored.versions.values(), key=lambda v: v.number, reverse=True)
    return ApiDescription(
        status=stored_status(stored, gateway_url, why_not),
        spec=stored.record.spec,
        replicas=(),
        versions=tuple(
            VersionStatus(
                version=version, role=role_of(stored, version.name), ready=0, traffic=Traffic()
            )
            for version in versions
        ),
    )
