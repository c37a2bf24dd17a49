"""The `autoscaling` block of a spec as a policy and as what each of its decisions is bound by."""

import math
from collections.abc import Callable

from serai.spec.scaling import FIXED, POLICIES, Autoscaling, CortexRules, Down, fixed_headroom
from serai_scheduler.autoscale.decide import LESS_FOR_S, Limits
from serai_scheduler.autoscale.headroom import FixedHeadroom
from serai_scheduler.autoscale.history import History
from serai_scheduler.autoscale.hold import Hold
from serai_scheduler.autoscale.metric.need import MetricNeed
from serai_scheduler.autoscale.policies.awake import Awake
from serai_scheduler.autoscale.policies.catalog import OWN, peer
from serai_scheduler.autoscale.policies.policy import ChoosingPolicy, Policy
from serai_scheduler.autoscale.policies.serai import Serai
from serai_scheduler.autoscale.schedule import bounds_at

Options = dict[str, float]
MakeOwn = Callable[[str], ChoosingPolicy]
"""Makes the policy of a `package.module:factory`."""


def policy_of(scaling: Autoscaling, history: History, own: MakeOwn) -> Policy | None:
    """Return a fresh policy, None for one that sets nothing; Serai's own goes on from `history`.

    `own` makes one that the user brings. Raises ConfigError for one that is none.
    """
    if scaling.policy == FIXED:
        return None
    if scaling.policy == OWN:
        return Serai(history)
    standing = 1 if history.standing is None else history.standing.wanted
    if scaling.policy not in POLICIES:
        return Awake(own(scaling.policy), standing)
    make = _OPTIONS.get(scaling.policy)
    return Awake(peer(scaling.policy, make(scaling) if make is not None else None), standing)


def fresh_history(scaling: Autoscaling) -> History:
    """Return a history of the hold and headroom that the spec sets, else of learned ones."""
    share = fixed_headroom(scaling.headroom)
    return History(
        hold=None if scaling.hold is None else Hold((scaling.hold.seconds,)),
        headroom=None if share is None else FixedHeadroom(share),
    )


def metric_need(scaling: Autoscaling, standing: int) -> MetricNeed | None:
    """Return a fresh need of the spec's metric, None without one; `standing` as for MetricNeed."""
    if scaling.metric is None:
        return None
    hold = Hold() if scaling.hold is None else Hold((scaling.hold.seconds,))
    return MetricNeed(scaling.metric, hold, standing)


def rule_of(scaling: Autoscaling) -> Autoscaling:
    """Return what a policy is made from: another rule begins anew, other bounds do not."""
    # One of the user's own is told of the delay when it is made.
    told = None if scaling.policy in POLICIES or scaling.down is None else scaling.down.delay
    return Autoscaling(
        policy=scaling.policy,
        target_in_flight=scaling.target_in_flight,
        window=scaling.window,
        hold=scaling.hold,
        headroom=scaling.headroom,
        metric=scaling.metric,
        down=None if told is None else Down(delay=told),
        cortex=scaling.cortex,
    )


def limits_of(scaling: Autoscaling, slots: float, wall_s: float) -> Limits:
    """Return what bounds a decision at this time; `slots` is what one replica runs at once."""
    low, high = bounds_at(scaling, wall_s)
    down, idle = scaling.down, scaling.idle_to_zero
    return Limits(
        min_replicas=low,
        max_replicas=high,
        target_slots=slots if scaling.target_in_flight is None else scaling.target_in_flight,
        idle_to_zero_s=math.inf if idle is None else idle.seconds,
        less_for_s=LESS_FOR_S if down is None or down.delay is None else down.delay.seconds,
    )


def _target(scaling: Autoscaling) -> Options:
    # A target of one's own is the whole of it; without one each rule has its share of the slots.
    return {} if scaling.target_in_flight is None else {"target": 1.0}


def _kpa(scaling: Autoscaling) -> Options:
    window = scaling.window
    return _target(scaling) | ({} if window is None else {"stable_window_s": window.seconds})


def _cortex(scaling: Autoscaling) -> Options:
    rules, window = scaling.cortex or CortexRules(), scaling.window
    options: Options = {
        "upscale_stabilization_period_s": rules.upscale_stabilization_period.seconds,
        "downscale_stabilization_period_s": rules.downscale_stabilization_period.seconds,
        "max_upscale_factor": rules.max_upscale_factor,
        "max_downscale_factor": rules.max_downscale_factor,
        "upscale_tolerance": rules.upscale_tolerance,
        "downscale_tolerance": rules.downscale_tolerance,
    }
    return _target(scaling) | options | ({} if window is None else {"window_s": window.seconds})


_OPTIONS: dict[str, Callable[[Autoscaling], Options]] = {
    "cortex": _cortex,
    "hpa": _target,
    "kpa": _kpa,
}
