"""How many replicas an API is to have now, with everything that led to it.

The method is that of docs/autoscaling.md: the demand without the queue, lifted by what was learned
of its errors, held as long as it pays; a queue is answered at once, but that only briefly.
"""

import math
from dataclasses import dataclass

from serai_scheduler.autoscale.history import History, Standing

SPARE = 0.05
"""No replica is started for so little of one."""
GRAIN = 0.08
"""A large count grows by at least so much of it: hundreds of replicas do not follow each one."""
LESS_FOR_S = 120.0
"""A lower count is taken once it has been enough for so long, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the spec sets: bounds of the count, and the slots of a replica that are to be used.

    With a minimum of 0 none is kept once nothing was asked for during `idle_to_zero_s`. A lower
    count is taken once it has been enough for `less_for_s`.
    """

    min_replicas: int
    max_replicas: int
    target_slots: float
    idle_to_zero_s: float = 900.0
    less_for_s: float = LESS_FOR_S


@dataclass(frozen=True, slots=True)
class Decision:
    """The wanted count and what it was made of; demand, held, peak and backlog in slots."""

    wanted: int
    unbounded: int
    """What it would be without the bounds."""
    demand: float
    service_s: float
    lifted: float
    held: float
    peak: float
    peak_age_s: float
    backlog: float
    limits: Limits
    standing: Standing
    """What the next decision is to know of this one; the caller gives it to the history."""
    by_traffic: int
    """What `unbounded` would be without a metric."""
    idle_s: float
    """For how long nothing was asked for, ran or waited."""


def decide(history: History, now_s: float, limits: Limits) -> Decision:
    """Return the wanted count; `now_s` is monotonic and not before what the history was told."""
    peak_at_s, peak = history.hold.peak(now_s)
    _, backlog = history.backlog.at(now_s)
    by_traffic = replicas_for(max(history.held, backlog), limits.target_slots)
    metric = history.last.metric if history.last is not None else None
    unbounded = by_traffic if metric is None else max(by_traffic, metric.replicas)
    sleeps = (history.standing is None or not history.standing.wanted) and not history.awake
    idle = sleeps or history.idle_s(now_s) >= limits.idle_to_zero_s
    if limits.min_replicas == 0 and idle:
        standing = Standing(0)
    else:
        count = bounded(max(unbounded, 1), limits)
        standing = calmed(count, unbounded, history.standing, now_s, limits)
    return Decision(
        wanted=standing.wanted,
        unbounded=unbounded,
        demand=history.demand.now,
        service_s=history.demand.service_s,
        lifted=history.lifted,
        held=history.held,
        peak=peak,
        peak_age_s=now_s - peak_at_s,
        backlog=backlog,
        limits=limits,
        standing=standing,
        by_traffic=by_traffic,
        idle_s=history.idle_s(now_s),
    )


def replicas_for(slots: float, target_slots: float) -> int:
    """Return how many replicas have so many slots, of which `target_slots` of each are used."""
    return max(0, math.ceil(slots / target_slots - SPARE))


def bounded(count: int, limits: Limits) -> int:
    """Return the count within the bounds."""
    return min(max(count, limits.min_replicas), limits.max_replicas)


def calmed(
    count: int, unbounded: int, before: Standing | None, now_s: float, limits: Limits
) -> Standing:
    """Return what stands now: more at once, in steps of some size; less once it has been enough.

    What only a bound asks for is not waited for: once the bound is gone, the count follows.
    """
    if before is None or count > before.wanted:
        # A bound that was asked for is kept as it is.
        grain = 1 if count == limits.min_replicas else max(1, int(GRAIN * count))
        wanted = bounded(math.ceil(count / grain) * grain, limits)
        return Standing(wanted, now_s if unbounded < wanted else None)
    since_s = now_s if before.less_since_s is None else before.less_since_s
    if count == before.wanted:
        return Standing(count, since_s if unbounded < count else None)
    if now_s - since_s >= limits.less_for_s or before.wanted > limits.max_replicas:
        return Standing(count)
    return Standing(before.wanted, since_s)
