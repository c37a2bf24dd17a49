"""The count of one API, second by second: what is seen becomes a verdict. Pure but for its memory.

All times but `wall_s` are monotonic seconds of the caller.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from serai.decisions import MetricAsked
from serai.model import Replica
from serai.spec.scaling import Autoscaling
from serai_scheduler.autoscale.decide import Limits, bounded
from serai_scheduler.autoscale.history import Sample
from serai_scheduler.autoscale.learned import (
    Found,
    InForce,
    Learned,
    Told,
    keep,
    resume,
    resume_start_up,
)
from serai_scheduler.autoscale.metric.need import NOTHING_READ, MetricNeed, Reading
from serai_scheduler.autoscale.own.answers import Config, config_of
from serai_scheduler.autoscale.own.policy import Oracle, OwnPolicy
from serai_scheduler.autoscale.policies.policy import Decided, Policy
from serai_scheduler.autoscale.policies.serai import Serai
from serai_scheduler.autoscale.rules import (
    fresh_history,
    limits_of,
    metric_need,
    policy_of,
    rule_of,
)
from serai_scheduler.autoscale.schedule import Running, window_at
from serai_scheduler.autoscale.signals import Signals, Supply
from serai_scheduler.autoscale.start_up import PRIOR_S
from serai_scheduler.autoscale.starts import Starts
from serai_scheduler.autoscale.steps import Steps
from serai_scheduler.record import ApiRecord
from serai_scheduler.status import serving
from serai_scheduler.traffic import Counted

MakeOracle = Callable[[str, Config], Oracle]
Cause = Literal["policy", "fixed", "pinned", "unknown"]
"""What a count comes from: a policy, the user (`policy: fixed` or `serai scale`), or from before,
because what the gateways or the engine would tell is unknown."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An API at one moment: `counted` is None while a gateway or the engine is silent.

    `woken` says that somebody waits for a first replica, as a held request does. `reading` is
    what is known of the metric, for an API that has one.
    """

    record: ApiRecord
    replicas: Sequence[Replica]
    counted: Counted | None
    wall_s: float
    woken: bool = False
    reading: Reading = NOTHING_READ


@dataclass(frozen=True, slots=True)
class Verdict:
    """The count to have, and everything that led to it.

    `decision` and `sample` are those of the last second of which anything is known, None before
    the first. `stepped` says that a limit of steps keeps the count from what was decided.
    """

    count: int
    cause: Cause
    wall_s: float
    limits: Limits
    supply: Supply
    decision: Decided | None = None
    sample: Sample | None = None
    window: Running | None = None
    stepped: bool = False
    overdue: int = 0
    """Replicas that should have been ready long ago; they are not waited for."""
    metric: MetricAsked | None = None
    """What the API's metric asks for, None for one without."""


def unheard(seen: Seen) -> Verdict:
    """Return that the count stays, for a leader that has heard nothing of an API yet."""
    record = seen.record
    slots = float(record.spec.concurrency.per_replica)
    limits = limits_of(record.spec.autoscaling, slots, seen.wall_s)
    ready, queue_limit = len(serving(record, seen.replicas)), record.spec.concurrency.queue
    count = record.replicas if record.pinned is None else record.pinned
    return Verdict(
        count=bounded(count, limits),
        cause="unknown" if record.pinned is None else "pinned",
        wall_s=seen.wall_s,
        limits=limits,
        supply=Supply(ready, 0, slots, PRIOR_S, queue_limit),
    )


@dataclass(frozen=True, slots=True)
class Past:
    """What a new leader knows of an API that served before: what was kept, what gateways told."""

    found: Found
    told: tuple[Told, ...] | None


class Scaler:
    """Feeds the policy, and keeps to the steps that are allowed; `starts` are those of the API.

    `past` is None for an API that has just begun to serve. `oracle` makes who asks a policy that
    the user brings, from its `module:factory` and what that is given.
    """

    def __init__(self, now_s: float, starts: Starts, past: Past | None, oracle: MakeOracle) -> None:
        self._past = past
        self._oracle = oracle
        self._starts = starts
        if past is not None:
            resume_start_up(starts.learned, past.found, now_s)
        self._signals = Signals()
        self._steps = Steps()
        self._rule: Autoscaling | None = None
        self._policy: Policy | None = None
        self._metric: MetricNeed | None = None
        self._last: tuple[Decided, Sample] | None = None

    def tick(self, now_s: float, seen: Seen) -> Verdict:
        """Return what to have now; `now_s` is after that of the last tick.

        The caller says then what of it `stands`.
        """
        record, scaling = seen.record, seen.record.spec.autoscaling
        slots = float(record.spec.concurrency.per_replica)
        limits = limits_of(scaling, slots, seen.wall_s)
        self._follow_rule(now_s, seen, InForce(record.replicas, limits.target_slots))
        coming, overdue = self._starts.coming(now_s, record.stable)
        supply = Supply(
            ready=len(serving(record, seen.replicas)),
            starting=coming,
            slots=slots,
            start_up_s=self._starts.usual_s(now_s),
            queue_limit=record.spec.concurrency.queue,
            overdue=overdue,
            target_slots=limits.target_slots,
            queue_timeout_s=record.spec.concurrency.queue_timeout.seconds,
        )
        asked = None
        if self._metric is not None:
            asked = self._metric.add(now_s, seen.reading, supply.start_up_s)
        sample = self._sample(seen, supply, asked)
        if sample is not None and self._policy is not None:
            self._policy.add(now_s, sample)
            self._last = self._policy.decide(now_s, limits), sample
        count, cause = self._wanted(record, limits, known=self._signals.known)
        allowed = count
        if cause == "policy":
            allowed = bounded(self._steps.limited(now_s, count, scaling), limits)
        decision, last = self._last if self._last is not None else (None, None)
        return Verdict(
            count=allowed,
            cause=cause,
            wall_s=seen.wall_s,
            limits=limits,
            supply=supply,
            decision=decision,
            sample=last,
            window=window_at(scaling, seen.wall_s),
            stepped=allowed != count,
            overdue=overdue,
            metric=asked,
        )

    def stands(self, now_s: float, count: int) -> None:
        """Take it that the API has no more than `count`: limits of steps go from there."""
        self._steps.stands(now_s, count)

    def _sample(self, seen: Seen, supply: Supply, asked: MetricAsked | None) -> Sample | None:
        sample = self._signals.sample(seen.counted, supply)
        if sample is not None and (seen.woken or asked is not None):
            queued = sample.queued + seen.woken
            return replace(sample, queued=queued, metric=asked, woken=seen.woken)
        return sample

    def keep(self, now_s: float, wall_s: float) -> Learned | None:
        """Return what is to outlive a restart, None where nothing was learned yet.

        Of the policies only Serai's learns; how long starts took is known whatever the policy.
        """
        history = self._policy.history if isinstance(self._policy, Serai) else None
        if history is None and self._metric is None and not self._starts.learned.heard:
            return None
        metric = self._metric.keep(now_s) if self._metric is not None else None
        return keep(history, self._starts.learned, now_s, wall_s, metric)

    def _follow_rule(self, now_s: float, seen: Seen, in_force: InForce) -> None:
        """Have the policy of the spec; what was learned goes over to another one of Serai's."""
        scaling = seen.record.spec.autoscaling
        rule = rule_of(scaling)
        if rule == self._rule:
            return
        past = self._past
        learned = self.keep(now_s, seen.wall_s) if self._rule is not None else None
        self._rule, self._last, self._past = rule, None, None
        history = fresh_history(scaling)
        self._metric = metric_need(scaling, in_force.count)
        known = learned or (past.found.learned if past is not None else None)
        if self._metric is not None and known is not None:
            self._metric.restore(now_s, known.metric)
        if learned is not None and learned.history is not None:
            history = resume(Found(learned), (), now_s, in_force, history)
        elif past is not None:
            history = resume(past.found, past.told, now_s, in_force, history)
        else:
            history.stand(in_force.count)

        def own(target: str) -> OwnPolicy:
            oracle = self._oracle(target, config_of(seen.record.spec))
            return OwnPolicy(oracle, in_force.count)

        self._policy = policy_of(scaling, history, own)

    def _wanted(self, record: ApiRecord, limits: Limits, known: bool) -> tuple[int, Cause]:
        if record.pinned is not None:
            return bounded(record.pinned, limits), "pinned"
        if self._policy is None:
            return bounded(record.replicas, limits), "fixed"
        if not known or self._last is None:
            return bounded(record.replicas, limits), "unknown"
        return self._last[0].wanted, "policy"
