"""What is kept of a verdict, and which verdicts are worth keeping. Pure."""

import math

from serai.decisions import ScaleDecision
from serai_scheduler.autoscale.decide import Decision
from serai_scheduler.autoscale.policies.policy import Choice
from serai_scheduler.autoscale.scaler import Verdict
from serai_scheduler.autoscale.sharing import Settled
from serai_scheduler.record import ApiRecord

QUIET_S = 60.0
"""A decision that changes nothing is kept once in this time."""
OWN_PARTS = ("demand", "service_s", "lifted", "held", "peak", "peak_age_s", "backlog", "idle_s")


def account_of(record: ApiRecord, verdict: Verdict, settled: Settled, before: int) -> ScaleDecision:
    """Return a verdict as it is kept and told; `before` is the count that stood until now."""
    limits, sample, decision = verdict.limits, verdict.sample, verdict.decision
    scaling = record.spec.autoscaling
    window = scaling.schedule[verdict.window.index].cron if verdict.window is not None else ""
    parts: dict[str, object] = {}
    if sample is not None:
        parts |= {
            "running": sample.running,
            "queued": sample.queued - sample.woken,
            "woken": sample.woken,
            "arrivals_per_s": sample.arrivals / sample.elapsed_s,
        }
    if isinstance(decision, Decision):
        parts |= {name: getattr(decision, name) for name in OWN_PARTS}
    elif isinstance(decision, Choice):
        parts |= {"load": decision.load, "why": decision.why, "fault": decision.fault}
    if verdict.metric is not None and isinstance(decision, Decision | Choice):
        parts["by_traffic"] = decision.by_traffic
    return ScaleDecision(
        api=record.name,
        at_s=verdict.wall_s,
        cause=verdict.cause,
        policy=scaling.policy,
        before=before,
        wanted=settled.count,
        desired=verdict.count,
        held_back=settled.held_back,
        idle=settled.idle,
        least=limits.min_replicas,
        most=limits.max_replicas,
        slots=verdict.supply.slots,
        target_slots=limits.target_slots,
        start_up_s=verdict.supply.start_up_s,
        ready=verdict.supply.ready,
        starting=verdict.supply.starting,
        overdue=verdict.overdue,
        unbounded=decision.unbounded if decision is not None else None,
        window=window,
        stepped=verdict.stepped,
        metric=verdict.metric,
        idle_to_zero_s=limits.idle_to_zero_s if math.isfinite(limits.idle_to_zero_s) else None,
        **parts,  # type: ignore[arg-type]  # each is of its field's type
    )


def worth_keeping(last: ScaleDecision | None, now: ScaleDecision) -> bool:
    """Say whether a decision goes to the ledger, after the last that went there."""
    if last is None or not 0.0 <= now.at_s - last.at_s < QUIET_S:  # a clock may be set back
        return True
    other = now.cause != last.cause or bool(now.held_back) != bool(last.held_back)
    other = other or bool(now.fault) != bool(last.fault) or _unknown(now) != _unknown(last)
    return other or now.before != now.wanted


def _unknown(one: ScaleDecision) -> bool:
    return one.metric is not None and one.metric.value is None
