"""Recorded traffic under what ran and under other settings, side by side. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serai.errors import ConfigError
from serai.recorded import RecordedTraffic
from serai.report import DEMAND_SLOT_S, DemandSlot, demand_slot
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec
from serai_scheduler.replay.answer import Replay, ReplayRow
from serai_scheduler.replay.load import Chance, load_of, mean_service_s
from serai_scheduler.replay.run import Outcome, Recorded, Rule, Span, Steered, run
from serai_scheduler.replay.system import Load, Room

WARM_UP_S = 900.0
"""So much of what came before is fed to each rule, which has no other past."""
MOST_REQUESTS = 5_000_000
"""Some 20 s for each rule; more take too long to wait for."""
AS_RECORDED = "as recorded"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A setting to try, and how it is called."""

    name: str
    scaling: Autoscaling


def replay(
    traffic: RecordedTraffic,
    since_s: float,
    spec: ApiSpec,
    candidates: Sequence[Candidate],
    chance: Callable[[], Chance],
) -> Replay:
    """Simulate what is kept since a moment; what `traffic` has from before it is the warm-up.

    `chance` begins the same numbers again each time. Raises ConfigError where nothing can be said.
    """
    window = _window(traffic, since_s)
    counted = {n: one for n, one in traffic.slots.items() if window.counted <= n < window.last}
    _check(traffic.api, counted)
    load = load_of(traffic.slots, window.first, window.last, chance())
    room = Room(
        slots=spec.concurrency.per_replica,
        queue_limit=spec.concurrency.queue,
        queue_timeout_s=spec.concurrency.queue_timeout.seconds,
    )
    recorded = Recorded(traffic.counts, spec.autoscaling.min_replicas)
    first = recorded.at(window.span.began_at_s).wanted
    rules: list[tuple[str, Rule]] = [(AS_RECORDED, recorded)] if traffic.counts else []
    rules += [(one.name, Steered(one.scaling, room.slots, first)) for one in candidates]
    rows = tuple(_row(name, run(load, room, window.span, recorded, rule)) for name, rule in rules)
    demand = demand_of(load, window.span, room.slots)
    return Replay(
        api=traffic.api,
        since_s=float(window.counted * DEMAND_SLOT_S),
        until_s=float(window.last * DEMAND_SLOT_S),
        requests=sum(one.arrivals for one in counted.values()),
        service_s=mean_service_s(counted) or mean_service_s(traffic.slots) or 0.0,
        start_up_s=recorded.at(traffic.until_s).start_up_s,
        demand=demand,
        rows=rows,
        metric_left_out=spec.autoscaling.metric is not None,
    )


@dataclass(frozen=True, slots=True)
class _Window:
    """Numbers of slots: the first, the first that counts, and the one after the last."""

    first: int
    counted: int
    last: int

    @property
    def span(self) -> Span:
        warm_up_s = (self.counted - self.first) * DEMAND_SLOT_S
        length_s = (self.last - self.first) * DEMAND_SLOT_S
        return Span(float(self.first * DEMAND_SLOT_S), length_s, warm_up_s)


def _window(traffic: RecordedTraffic, since_s: float) -> _Window:
    """Return what to simulate: not before anything is known, so no idle time is made up."""
    known = [*traffic.slots, *(demand_slot(one.at_s) for one in traffic.counts[:1])]
    last = demand_slot(traffic.until_s)
    first = max(demand_slot(traffic.since_s), min(known, default=last))
    return _Window(first, max(first, demand_slot(since_s)), last)


def _check(api: str, counted: dict[int, DemandSlot]) -> None:
    requests = sum(one.arrivals for one in counted.values())
    if not requests:
        raise ConfigError(
            f"no request to {api} is recorded of that time, so there is nothing to replay; traffic"
            " is kept from some seconds after it came, for a week: look further back with --since"
        )
    if mean_service_s(counted) is None:
        raise ConfigError(
            f"no request to {api} has ended in that time, so it is not known how long one takes;"
            " look further back with --since"
        )
    if requests > MOST_REQUESTS:
        raise ConfigError(
            f"{requests} requests to {api} are recorded of that time, and {MOST_REQUESTS} are what"
            " a replay takes; name a shorter time with --since"
        )


def demand_of(load: Load, span: Span, slots: int) -> tuple[float, ...]:
    """Return the replicas that were busy with it if none ever waited: means of ten seconds."""
    busy_s = [0.0] * (span.length_s // DEMAND_SLOT_S)
    for at_s, service_s in zip(load.arrivals_s, load.services_s, strict=True):
        end_s = min(at_s + service_s, float(span.length_s))
        while at_s < end_s:
            place = int(at_s // DEMAND_SLOT_S)
            until_s = min(end_s, float((place + 1) * DEMAND_SLOT_S))
            busy_s[place] += until_s - at_s
            at_s = until_s
    first = span.warm_up_s // DEMAND_SLOT_S
    return tuple(each / DEMAND_SLOT_S / slots for each in busy_s[first:])


def _row(name: str, outcome: Outcome) -> ReplayRow:
    share = outcome.late / outcome.requests if outcome.requests else 0.0
    return ReplayRow(
        policy=name,
        late=outcome.late,
        late_percent=100.0 * share,
        replica_hours=outcome.replica_s / 3600.0,
        changes=outcome.changes,
        most_replicas=max(outcome.replicas, default=0),
        replicas=outcome.replicas,
    )
