"""What the gateways are told about an API: a pure function of its record."""

from serai.routes import SHARE_WHOLE, Route, VersionShare
from serai_scheduler.record import ApiRecord, StoredApi

HOLD_LIMIT_S = 120
"""How long a request waits for a first ready replica."""


def route_of(record: ApiRecord, epoch: int) -> Route | None:
    """Return the route of an API, or None when it is being deleted."""
    if record.deleting_since_s is not None:
        return None
    spec, shares = record.spec, _shares(record)
    return Route(
        api=record.name,
        endpoint=spec.endpoint,
        versions=shares,
        queue_limit=spec.concurrency.queue,
        queue_timeout_s=int(spec.concurrency.queue_timeout.seconds),
        # Where nothing has served and nothing starts, there is nothing to wait for.
        hold_limit_s=HOLD_LIMIT_S if shares else 0,
        first_byte_s=spec.timeouts.first_byte.seconds,
        idle_s=spec.timeouts.idle.seconds,
        total_s=spec.timeouts.total.seconds,
        body_max_bytes=spec.concurrency.body_max.bytes,
        retry=spec.retry,
        draining=tuple(entry.replica for entry in record.draining),
        retry_after_s=record.retry_after_s,
        revision=record.revision,
        epoch=epoch,
    )


def _shares(record: ApiRecord) -> tuple[VersionShare, ...]:
    """Give all traffic to the stable version and provision the candidate beside it.

    Before anything has served, the first candidate takes what arrives: requests are held for it.
    """
    serving = record.stable or (record.candidate.version if record.candidate else "")
    shares = [VersionShare(version=serving, share=SHARE_WHOLE)] if serving else []
    if record.candidate and record.candidate.version != serving:
        shares.append(VersionShare(version=record.candidate.version, share=0))
    return tuple(shares)


def endpoints(stored: tuple[StoredApi, ...]) -> dict[str, str]:
    """Return which API has which endpoint, candidates' future endpoints included."""
    taken: dict[str, str] = {}
    for api in stored:
        taken[api.record.spec.endpoint] = api.record.name
        if api.record.candidate:
            taken[api.record.candidate.spec.endpoint] = api.record.name
    return taken
