"""What the values of an `autoscaling` block must be together."""

import re
from collections.abc import Iterator

from serai.crons import cron_fault, is_timezone, shortest_gap_s, timezone_names
from serai.spec.findings import Finding, Path
from serai.spec.problems import nearest, shown
from serai.spec.scaling import ALLOWED_POLICIES, OWN_POLICY, POLICIES, Autoscaling, Window
from serai.units import Duration

OWN = "package.module:factory"
USED_BY: dict[str, tuple[str, ...]] = {
    "target_in_flight": ("serai", "cortex", "kpa", "hpa", OWN),
    "window": ("cortex", "kpa", OWN),
    "hold": ("serai", OWN),
    "headroom": ("serai", OWN),
    "up": ("serai", OWN),
    "down": ("serai", OWN),
    "idle_to_zero": ("serai", "cortex", "kpa", "hpa", OWN),
    "metric": ("serai", OWN),
    "cortex": ("cortex",),
}
"""Which policies have a use for a key; the keys that are not named here hold for all."""

QUEUE_COUNTS = ("cortex", OWN)
"""Policies that count waiting requests too, so that a target may lie above what runs at once."""

_BLOCK = "autoscaling"
POLICY: Path = (_BLOCK, "policy")
_LOW: Path = (_BLOCK, "min_replicas")
_HIGH: Path = (_BLOCK, "max_replicas")


def scaling_findings(scaling: Autoscaling, per_replica: int, queue: int) -> Iterator[Finding]:
    """Yield what contradicts itself; `per_replica` and `queue` are those of `concurrency`."""
    yield from _bounds(scaling)
    yield from _zero(scaling)
    kind = policy_kind(scaling.policy)
    if kind:
        yield from _unused(scaling, kind)
        yield from _target(scaling, kind, per_replica, queue)
        yield from _window(scaling, kind)
    else:
        message = f"{shown(scaling.policy)} is not a policy"
        hint = nearest(scaling.policy, POLICIES)
        yield Finding(POLICY, message, allowed=ALLOWED_POLICIES, hint=hint)
    yield from _steps(scaling)
    for index, window in enumerate(scaling.schedule):
        yield from _scheduled(window, (_BLOCK, "schedule", index), scaling)


def policy_kind(policy: str) -> str:
    """Return the policy as `USED_BY` names it, or an empty text where it is none."""
    if policy in POLICIES:
        return policy
    return OWN if re.search(OWN_POLICY, policy) else ""


def _bounds(scaling: Autoscaling) -> Iterator[Finding]:
    low, high, first = scaling.min_replicas, scaling.max_replicas, scaling.init_replicas
    if low > high:
        message = f"more than `max_replicas`, which is {high}"
        yield Finding(_LOW, message, str(low), f"at most {high}", others=(_LOW, _HIGH))
    elif first is not None and not low <= first <= high:
        path: Path = (_BLOCK, "init_replicas")
        message = "not between `min_replicas` and `max_replicas`"
        yield Finding(path, message, str(first), f"{low} to {high}", others=(_LOW, _HIGH))


def _zero(scaling: Autoscaling) -> Iterator[Finding]:
    if scaling.idle_to_zero is not None and scaling.min_replicas > 0:
        low = scaling.min_replicas
        message = (
            f"would never take effect: `min_replicas` is {low}; set that to 0, or remove this key"
        )
        path: Path = (_BLOCK, "idle_to_zero")
        yield Finding(path, message, str(scaling.idle_to_zero), others=(_LOW,))


def _unused(scaling: Autoscaling, kind: str) -> Iterator[Finding]:
    for key, users in USED_BY.items():
        if getattr(scaling, key) is not None and kind not in users:
            named = " or ".join(f"`{one}`" for one in users)
            what = "these keys of Cortex's rule" if key == "cortex" else "it"
            message = (
                f"policy `{scaling.policy}` has no use for {what}; remove {what}, or set"
                f" `policy` to {named}"
            )
            yield Finding((_BLOCK, key), message, others=(POLICY,), at_key=True)


def _target(scaling: Autoscaling, kind: str, per_replica: int, queue: int) -> Iterator[Finding]:
    target = scaling.target_in_flight
    if target is None or kind not in USED_BY["target_in_flight"]:
        return
    others: tuple[Path, ...] = (("concurrency", "per_replica"), ("concurrency", "queue"), POLICY)
    path: Path = (_BLOCK, "target_in_flight")
    if kind in QUEUE_COUNTS and target > per_replica + queue:
        message = "more than can run and wait (`concurrency.per_replica` and `queue`)"
        allowed = f"at most {per_replica + queue}"
        yield Finding(path, message, f"{target:g}", allowed, others=others)
    elif kind not in QUEUE_COUNTS and target > per_replica:
        message = (
            "more than one replica works on at once (`concurrency.per_replica`), so that requests"
            " would always wait"
        )
        yield Finding(path, message, f"{target:g}", f"at most {per_replica}", others=others)


def _window(scaling: Autoscaling, kind: str) -> Iterator[Finding]:
    if scaling.window is None:
        return
    path: Path = (_BLOCK, "window")
    window_s = scaling.window.seconds
    if kind == "cortex" and (window_s < 10 or window_s % 10):
        message, allowed = "Cortex's rule looks every 10 seconds", "a multiple of 10s"
        yield Finding(path, message, str(scaling.window), allowed, others=(POLICY,))
    if kind == "kpa" and window_s > 3600:
        message = "longer than the rule of Knative allows"
        yield Finding(path, message, str(scaling.window), "6s to 1h", others=(POLICY,))


def _steps(scaling: Autoscaling) -> Iterator[Finding]:
    limit = scaling.down.limit if scaling.down is not None else None
    if limit is not None and re.fullmatch("[0-9]+%", limit) and int(limit[:-1]) > 100:
        message = "more than all replicas; 100% is already no limit"
        yield Finding((_BLOCK, "down", "limit"), message, shown(limit), "1% to 100%, or a number")


def _scheduled(window: Window, path: Path, scaling: Autoscaling) -> Iterator[Finding]:
    yield from _scheduled_bounds(window, path, scaling)
    if not is_timezone(window.timezone):
        message = f"{shown(window.timezone)} is not a time zone"
        hint = nearest(window.timezone, timezone_names())
        allowed = "a name of the time zone database, such as Europe/Berlin or UTC"
        yield Finding((*path, "timezone"), message, allowed=allowed, hint=hint)
    if fault := cron_fault(window.cron):
        allowed = "minute, hour, day, month and weekday, such as 0 8 * * 1-5"
        yield Finding((*path, "cron"), fault, shown(window.cron), allowed)
        return
    gap_s = shortest_gap_s(window.cron)
    if window.for_.seconds > gap_s:
        message = "longer than until its cron comes again, so that it would never end"
        allowed = f"at most {Duration(gap_s)}; or set `min_replicas` and `max_replicas` instead"
        others: tuple[Path, ...] = ((*path, "cron"),)
        yield Finding((*path, "for"), message, str(window.for_), allowed, others=others)


def _scheduled_bounds(window: Window, path: Path, scaling: Autoscaling) -> Iterator[Finding]:
    low, high = window.min, window.max
    if low is None and high is None:
        message = "changes nothing: give it a `min`, a `max` or both"
        yield Finding(path, message, others=((*path, "min"), (*path, "max")))
    elif low is not None and high is not None and low > high:
        message = f"more than `max` of the same window, which is {high}"
        yield Finding(
            (*path, "min"), message, str(low), f"at most {high}", others=((*path, "max"),)
        )
    elif low is not None and high is None and low > scaling.max_replicas:
        most = scaling.max_replicas
        message = f"more than `max_replicas`, which is {most}; give the window a `max` too"
        yield Finding((*path, "min"), message, str(low), others=(_HIGH, (*path, "max")))
    elif high is not None and low is None and high < scaling.min_replicas:
        least = scaling.min_replicas
        message = f"less than `min_replicas`, which is {least}; give the window a `min` too"
        yield Finding((*path, "max"), message, str(high), others=(_LOW, (*path, "min")))
