"""What `explain`, `decisions` and `top` show. Pure: types in, lines out."""

from datetime import datetime

from serai.decisions import DecisionList, Explanation, ScaleDecision
from serai.operator import ApiList, ApiStatus
from serai_cli.quantities import milliseconds, rate
from serai_cli.screens import NAME_LEAST, NO_APIS, TEXT_LEAST, state_colour
from serai_cli.tables import PLAIN, Column, Look, table

NO_DECISIONS = "no decisions are kept of that time"

DECISION_COLUMNS = (
    Column("at"),
    Column("replicas", right=True),
    Column("by", drop=1),
    Column("req/s", right=True, drop=3),
    Column("running", right=True, drop=4),
    Column("queued", right=True, quiet="0", drop=5),
    Column("demand", right=True, quiet="-"),
    Column("headroom", right=True, quiet="-", drop=6),
    Column("held", right=True, quiet="-"),
    Column("backlog", right=True, quiet="-", drop=7),
    Column("enough", right=True, drop=2),
    Column("ready", right=True),
    Column("note", least=TEXT_LEAST, quiet=""),
)
TOP_COLUMNS = (
    Column("api", least=NAME_LEAST),
    Column("status", paint=state_colour),
    Column("ready", right=True),
    Column("demand", right=True),
    Column("in flight", right=True),
    Column("queued", right=True),
    Column("held", right=True, quiet="0"),
    Column("req/s", right=True),
    Column("refused/s", right=True, quiet="0.0", drop=2),
    Column("p50", right=True, drop=1),
    Column("p99", right=True),
)


def explanation(answer: Explanation) -> list[str]:
    """Return the sentences, a line each."""
    at = [f"at {_moment(answer.decision.at_s)}:"] if answer.decision is not None else []
    return [*at, *answer.sentences]


def decisions(answer: DecisionList, look: Look = PLAIN) -> list[str]:
    """Return the decisions, the newest first; demand and what follows from it in slots."""
    if not answer.decisions:
        return [NO_DECISIONS]
    return table(DECISION_COLUMNS, [_decision_row(one) for one in answer.decisions], look)


def _decision_row(one: ScaleDecision) -> list[str]:
    changed = one.before != one.wanted
    return [
        _moment(one.at_s),
        f"{one.before} → {one.wanted}" if changed else str(one.wanted),
        one.policy if one.cause == "policy" else one.cause,
        rate(one.arrivals_per_s),
        str(one.running),
        str(one.queued),
        _slots(one.demand),
        _slots(one.lifted),
        _slots(one.held),
        _slots(one.backlog or None),
        "-" if one.unbounded is None else str(one.unbounded),
        str(one.ready),
        _note(one),
    ]


def _note(one: ScaleDecision) -> str:
    parts = []
    if one.window:
        parts.append(f"schedule {one.window}")
    if one.stepped:
        parts.append("limited steps")
    if one.unbounded is not None and one.unbounded > one.most:
        parts.append(f"at most {one.most}")
    if one.overdue:
        parts.append(f"{one.overdue} overdue")
    if one.metric is not None:
        now = one.metric.now
        parts.append("metric unknown" if now is None else f"metric asks for {now}")
    return "; ".join([*parts, one.why] if one.why else parts)


def top(apis: ApiList, look: Look = PLAIN) -> list[str]:
    """Return what each API is asked for, the most demanded first."""
    if not apis.apis:
        return [NO_APIS]
    ordered = sorted(apis.apis, key=lambda api: (-(api.demand or 0.0), api.name))
    return table(TOP_COLUMNS, [_top_row(api) for api in ordered], look)


def _top_row(api: ApiStatus) -> list[str]:
    traffic = api.traffic
    return [
        api.name,
        api.state.value,
        f"{api.ready}/{api.wanted}",
        _slots(api.demand),
        str(traffic.in_flight),
        str(traffic.queued),
        str(traffic.held),
        rate(traffic.requests_per_s),
        rate(traffic.refused_per_s),
        milliseconds(traffic.p50_ms),
        milliseconds(traffic.p99_ms),
    ]


def _slots(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s).astimezone():%m-%d %H:%M:%S}"
