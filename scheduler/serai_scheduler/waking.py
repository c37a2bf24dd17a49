"""Waking a sleeping API: whether it may be, and how far its first replica is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from serai.model import Replica, ReplicaState
from serai.spec.scaling import FIXED
from serai.waking import WakePhase, WakeProgress
from serai_scheduler.autoscale.starts import phases_of
from serai_scheduler.record import ApiRecord
from serai_scheduler.status import serving

NEVER_SERVED = "{api} has no version that serves; `serai describe {api}` tells why"
SET_TO_ZERO = "{api} is set to 0 replicas; `serai scale {api} --auto` lets its policy decide again"
FIXED_AT_ZERO = "{api} has `policy: fixed` and 0 replicas; `serai scale {api} --replicas 1`"
CAPPED = "{api} may have no replica now: its bounds end at 0; change autoscaling and deploy it"
DELETED = "{api} is deleted"
GIVEN_UP = "no replica became ready in time; `serai describe {api}` tells what they do"
ORDER = list(WakePhase)
UNDER_WAY = (
    WakePhase.ASKED,
    WakePhase.ENVIRONMENT,
    WakePhase.PROCESS,
    WakePhase.LOADING,
    WakePhase.LOADING,
)
"""What a replica is at that has reached so many phases of a start."""


def why_not(record: ApiRecord, most: int) -> str:
    """Return why an API cannot be woken and what to do, "" if it can; `most` is its bound now."""
    if not record.stable:
        return NEVER_SERVED.format(api=record.name)
    if record.pinned == 0:
        return SET_TO_ZERO.format(api=record.name)
    if most == 0:
        return CAPPED.format(api=record.name)
    fixed = record.spec.autoscaling.policy == FIXED and record.pinned is None
    return FIXED_AT_ZERO.format(api=record.name) if fixed and record.replicas == 0 else ""


def failed_ids(replicas: Sequence[Replica]) -> frozenset[str]:
    """Return which replicas have failed."""
    return frozenset(one.id for one in replicas if one.state is ReplicaState.FAILED)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who waits for a first replica, and how long that takes.

    `wished` is None while nobody has asked for one, True while somebody is taken to wait, False
    once nobody is any more. `eta_s` is how long it usually takes from now, None if unknown.
    """

    wished: bool | None
    eta_s: float | None


def progress(
    record: ApiRecord,
    most: int,
    replicas: Sequence[Replica],
    failed_before: frozenset[str],
    waiting: Waiting,
) -> WakeProgress:
    """Return how far the foremost replica is; `most` is the API's bound now.

    One that has failed since, and is not in `failed_before`, ends it.
    """
    name = record.name
    if record.deleting_since_s is not None:
        return failed(name, DELETED.format(api=name))
    if serving(record, replicas):
        return WakeProgress(api=name, phase=WakePhase.READY, eta_s=0.0)
    if why := why_not(record, most):
        return failed(name, why)
    mine = [one for one in replicas if one.version == record.stable]
    for one in mine:
        if one.state is ReplicaState.FAILED and one.id not in failed_before:
            why = one.reason or (str(one.exit) if one.exit else "it ended")
            return failed(name, f"{one.id}: {why}")
    if waiting.wished is False:
        return failed(name, GIVEN_UP.format(api=name))
    found = [(_phase(one), one.reason) for one in mine if one.alive]
    coming = [(phase, reason) for phase, reason in found if phase is not None]
    if not coming and waiting.wished is None and record.replicas == 0:
        return WakeProgress(api=name, phase=WakePhase.ASLEEP)
    phase, reason = max(
        coming, key=lambda each: ORDER.index(each[0]), default=(WakePhase.ASKED, "")
    )
    return WakeProgress(api=name, phase=phase, reason=reason, eta_s=_rounded(waiting.eta_s))


def failed(api: str, why: str) -> WakeProgress:
    """Return that it will not be ready, and why."""
    return WakeProgress(api=api, phase=WakePhase.FAILED, reason=why)


def _rounded(eta_s: float | None) -> float | None:
    return None if eta_s is None else round(eta_s, 1)


def _phase(one: Replica) -> WakePhase | None:
    if one.state in (ReplicaState.READY, ReplicaState.DRAINING):  # it is on its way out
        return None
    return UNDER_WAY[len(phases_of(one))]
