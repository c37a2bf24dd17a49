"""Any rule but Serai's own, with what a metric asks for, kept from sleeping before its time. Pure.

Serai's own rule sees to both itself: what it knows of the time before outlives a restart.
"""

import math
from dataclasses import replace

from serai.decisions import MetricAsked
from serai_scheduler.autoscale.decide import Limits, bounded
from serai_scheduler.autoscale.history import Sample
from serai_scheduler.autoscale.policies.policy import Choice, ChoosingPolicy


class Awake:
    """Takes a count of 0 only once nothing was asked for, ran or waited for `idle_to_zero`.

    One that has none when this begins is asleep already; else the beginning counts as asked for.
    """

    def __init__(self, policy: ChoosingPolicy, standing: int) -> None:
        self._policy = policy
        self._asked_for_s: float | None = None if standing else -math.inf
        self._busy = False
        self._metric: MetricAsked | None = None

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second."""
        self._policy.add(at_s, sample)
        self._metric = sample.metric
        self._busy = bool(sample.running or sample.queued)
        if sample.busy or self._asked_for_s is None:
            self._asked_for_s = at_s

    def decide(self, now_s: float, limits: Limits) -> Choice:
        """Return the rule's count, or one more than none for as long as that is too early."""
        choice = self._policy.decide(now_s, limits)
        since_s = now_s if self._asked_for_s is None else self._asked_for_s
        may_sleep = now_s - since_s >= limits.idle_to_zero_s
        if self._metric is not None:
            # What is held of a metric's needs keeps nothing awake, just as that of traffic's.
            asked = 0 if may_sleep and not choice.wanted else self._metric.replicas
            choice = _raised(choice, asked, limits)
        if choice.wanted:
            return choice
        if self._busy:
            return _one(choice, limits, "none is asked for, but requests run or wait")
        if not may_sleep:
            when = "is not over" if math.isfinite(limits.idle_to_zero_s) else "is not set"
            return _one(choice, limits, f"none is asked for, and `idle_to_zero` {when}")
        return choice


def _raised(choice: Choice, asked: int, limits: Limits) -> Choice:
    count = max(choice.unbounded, asked)
    return replace(
        choice, wanted=bounded(count, limits), unbounded=count, by_traffic=choice.unbounded
    )


def _one(choice: Choice, limits: Limits, why: str) -> Choice:
    return replace(choice, wanted=bounded(1, limits), unbounded=1, why=why)
