"""A decision in sentences: why there are so many replicas. Pure."""

from collections.abc import Iterator

from serai.decisions import MetricAsked, ScaleDecision
from serai_scheduler.autoscale.metric.book import ASK_EVERY_S

NOTHING_SLOTS = 0.01
NOTHING_DECIDED = "nothing has been decided about {api} yet: no version of it serves"


def explained(one: ScaleDecision) -> tuple[str, ...]:
    """Return why the count was what it was, the most important first."""
    return tuple(_sentences(one))


def _sentences(one: ScaleDecision) -> Iterator[str]:
    yield _verdict(one)
    if one.cause == "unknown":
        yield (
            "What the gateways count, or what runs, is not known at this moment: a gateway or the "
            "engine is silent, or was heard for the first time. Unknown is not zero, so the count "
            "stays."
        )
    elif one.cause == "policy":
        yield from _own_parts(one) if one.demand is not None else _peers_parts(one)
        if one.woken:
            yield (
                "Somebody waits for a first replica (`serai wake`, or at the gateway): that counts "
                "as one request that is held."
            )
        yield from _metric(one)
        yield from _bounds(one)
    yield from _shared(one)
    yield from _supply(one)


def _verdict(one: ScaleDecision) -> str:
    count = f"{one.api} is to have {_replicas(one.wanted)}"
    if one.cause == "pinned":
        again = f"`serai scale {one.api} --auto` lets its policy ({one.policy}) decide again"
        return f"{count}: `serai scale` has set that; {again}."
    if one.cause == "fixed":
        return f"{count}: its policy is `fixed`, so `serai scale` and the bounds alone set it."
    if one.cause == "unknown":
        return f"{count}, as before."
    if one.wanted != one.before:
        return f"{count}, {_replicas(one.before)} before: policy {one.policy} decides."
    return f"{count}, as before: policy {one.policy} decides."


def _own_parts(one: ScaleDecision) -> Iterator[str]:
    assert one.demand is not None and one.service_s is not None
    assert one.held is not None and one.peak is not None and one.peak_age_s is not None
    if _desired(one) == 0:
        yield "Nothing has been asked for, ran or waited for the time of `idle_to_zero`."
        return
    if one.demand < NOTHING_SLOTS and not one.arrivals_per_s:
        yield "Nothing is asked for at this moment."
    else:
        yield (
            f"Requests arrive at {one.arrivals_per_s:.3g} a second, each runs for "
            f"{_seconds(one.service_s)} on average: that takes {_slots(one.demand)} (requests at "
            "once)."
        )
    if one.lifted is not None and one.lifted > one.demand:
        yield (
            f"With the headroom that was learned it is {_slots(one.lifted)} within the "
            f"{_seconds(one.start_up_s)} that a start takes."
        )
    yield (
        f"Kept of what was needed of late: {_slots(one.held)}; the highest need was "
        f"{one.peak:.3g}, {_seconds(one.peak_age_s)} ago."
    )
    if one.backlog and (one.queued or not one.woken):
        waiting = f"In the queue: {one.queued}" if one.queued else "Requests waited a moment ago"
        yield f"{waiting}; with {_slots(one.backlog)} what comes is served and the queue cleared."
    need = max(one.held, one.backlog or 0.0)
    yield (
        f"A replica is to run {one.target_slots:g} at once: for {_slots(need)} that makes "
        f"{_replicas(_by_traffic(one) or 0)}."
    )


def _peers_parts(one: ScaleDecision) -> Iterator[str]:
    if one.load is not None:
        yield f"{one.load:.3g} requests run and wait on average: {one.why or 'its rule'}."
    elif one.fault:
        yield (
            f"The policy gives no count: {one.fault}. The last good one is held, which is "
            f"{_replicas(_by_traffic(one) or 0)}."
        )
        return
    elif one.why:
        yield f"A replica is kept: {one.why}."
    if (asked := _by_traffic(one)) is not None:
        yield f"Its rule asks for {_replicas(asked)}."


def _by_traffic(one: ScaleDecision) -> int | None:
    return one.unbounded if one.by_traffic is None else one.by_traffic


def _metric(one: ScaleDecision) -> Iterator[str]:
    metric = one.metric
    if metric is None:
        return
    if metric.value is None or metric.now is None:
        yield from _unknown_metric(one, metric)
        return
    asks = (
        f"The metric asks for {_replicas(metric.now)} (value {_figure(metric.value)} at a target "
        f"of {_figure(metric.target)} a replica)"
    )
    if _desired(one) == 0:
        yield f"{asks}, so that none is kept awake."
    elif metric.replicas > metric.now:
        yield f"{asks}; {metric.replicas} are held of what it asked for of late."
    else:
        yield f"{asks}."


def metric_away(one: ScaleDecision) -> str:
    """Return why a metric has been unknown for longer than a first answer takes, "" otherwise."""
    metric = one.metric
    if metric is None or metric.value is not None or metric.unknown_s < ASK_EVERY_S:
        return ""
    return metric.fault


def _unknown_metric(one: ScaleDecision, metric: MetricAsked) -> Iterator[str]:
    since = f", for {_seconds(metric.unknown_s)} now" if metric.unknown_s >= 1.0 else ""
    if not one.wanted and not one.ready:
        keeps = "Unknown wakes nothing: requests do, and the metric once it is known."
    else:
        keeps = (
            f"Unknown is not zero, so {_replicas(metric.replicas)} are held of what it asked for "
            "or what stood before; requests may add to that, and nothing falls asleep."
        )
    yield (
        f"The metric is not known{since}: {metric.fault}. {keeps} Once Prometheus gives one number "
        "for `autoscaling.metric.promql` it counts again; without `metric` requests alone do."
    )


def _figure(value: float) -> str:
    return f"{value:,.6g}"


def _bounds(one: ScaleDecision) -> Iterator[str]:
    unbounded = one.unbounded
    where = f"The window of the schedule that began by `{one.window}`" if one.window else ""
    if unbounded is None:
        return
    desired = _desired(one)
    if unbounded < one.least == desired:
        yield f"{where or '`min_replicas`'} keeps {_replicas(one.least)} at least."
    elif unbounded > one.most:
        yield (
            f"{where or '`max_replicas`'} allows {one.most} at most; without it there would be "
            f"{unbounded}."
        )
    elif one.stepped:
        yield f"A limit of steps keeps it at {desired} for now."
    elif unbounded < desired and desired > 1:
        enough = max(1, unbounded, one.least)  # the last one goes once it is time to sleep
        are, they_have = ("is", "it has") if enough == 1 else ("are", "they have")
        yield f"{enough} would be enough, and {are} taken once {they_have} been for long enough."
    elif unbounded < desired:
        yield from _last_one(one)


def _last_one(one: ScaleDecision) -> Iterator[str]:
    """Yield why one is kept that nothing asks for, where that is known of the decision."""
    unknown = one.metric is not None and one.metric.value is None
    if one.idle_s is None or unknown:
        return
    if one.idle_to_zero_s is None:
        yield "The last one stays all the same: no `idle_to_zero` is set."
        return
    since = f", which is so for {_seconds(one.idle_s)} now" if one.idle_s >= 1.0 else ""
    yield (
        "One is kept all the same until nothing has been asked for, ran or waited for "
        f"{_seconds(one.idle_to_zero_s)} (`idle_to_zero`){since}."
    )


def _desired(one: ScaleDecision) -> int:
    """Return the count without what a full cluster does to it."""
    return one.wanted if one.desired is None else one.desired


def _shared(one: ScaleDecision) -> Iterator[str]:
    if one.held_back:
        yield (
            f"The cluster is full for it: {one.held_back}. `autoscaling.priority` says who comes "
            "first; more nodes, or less wanted by others, help as well."
        )
    if one.idle:
        yield (
            f"{_replicas(one.idle)} of these {'is' if one.idle == 1 else 'are'} warm and not "
            "needed: kept until somebody needs the room (`release: contention`)."
        )


def _supply(one: ScaleDecision) -> Iterator[str]:
    told = f"{one.ready} {'is' if one.ready == 1 else 'are'} ready"
    if one.starting:
        told += f", {one.starting} start"
    if one.starting or one.overdue or one.ready < one.wanted:
        told += f" (a start takes {_seconds(one.start_up_s)})"
    if one.overdue:
        told += (
            f"; {one.overdue} should have been ready long ago and "
            f"{'is' if one.overdue == 1 else 'are'} not waited for"
        )
    yield f"{told}."


def _replicas(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"


def _slots(count: float) -> str:
    told = f"{count:.3g}"
    return f"{told} slot" if told == "1" else f"{told} slots"


def _seconds(seconds: float) -> str:
    if seconds >= 120.0:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.3g} s" if seconds >= 1.0 else f"{1000 * seconds:.3g} ms"
