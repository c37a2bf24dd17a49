"""Compares policies over the same runs: means, ratios with intervals, runs that are worse."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, median

from bench.autoscale.simulator import Run

RESAMPLES = 4000
INTERVAL = 0.9


@dataclass(frozen=True)
class Summary:
    """One policy over all its runs."""

    late_percent: float
    median_late_percent: float
    runs_over_one_percent: float
    """The share of runs in which more than 1 % of the requests were late."""
    hours: float
    events_per_hour: float


@dataclass(frozen=True)
class Ratio:
    """One policy against another, with the ends of the interval over traces."""

    value: float
    low: float
    high: float


def policies_of(runs: Iterable[Run]) -> list[str]:
    return list(dict.fromkeys(run.policy for run in runs))


def of(runs: Iterable[Run], policy: str, trace: str | None = None) -> list[Run]:
    return [run for run in runs if run.policy == policy and trace in (None, run.trace)]


def geometric(values: Iterable[float]) -> float:
    return math.exp(fmean(math.log(value) for value in values))


def summary(runs: Sequence[Run]) -> Summary:
    """Return the means as the simulator's own table has them."""
    late = [run.late_percent for run in runs]
    return Summary(
        late_percent=fmean(late),
        median_late_percent=median(late),
        runs_over_one_percent=fmean(each > 1.0 for each in late),
        hours=geometric(run.hours for run in runs),
        events_per_hour=fmean(run.events_per_hour for run in runs),
    )


def late_ratio(runs: Sequence[Run], ours: str, peer: str) -> Ratio:
    """Return how many times the peer's late requests are ours, by the means over runs."""

    def found(traces: Sequence[str]) -> float:
        late = sum(our_late[trace] for trace in traces)
        peers = sum(peer_late[trace] for trace in traces)
        if peers:
            return late / peers
        return math.inf if late else 1.0

    our_late, peer_late = _late_by_trace(runs, ours), _late_by_trace(runs, peer)
    return _with_interval(found, list(our_late))


def hours_ratio(runs: Sequence[Run], ours: str, peer: str) -> Ratio:
    """Return how many times the peer's replica-hours are ours, by geometric means."""

    def found(traces: Sequence[str]) -> float:
        return math.exp(fmean(by_trace[trace] for trace in traces))

    by_trace = {
        trace: fmean(math.log(run.hours) for run in of(runs, ours, trace))
        - fmean(math.log(run.hours) for run in of(runs, peer, trace))
        for trace in _traces(runs)
    }
    return _with_interval(found, list(by_trace))


def _traces(runs: Iterable[Run]) -> list[str]:
    return sorted({run.trace for run in runs})


def _late_by_trace(runs: Sequence[Run], policy: str) -> dict[str, float]:
    return {
        trace: fmean(run.late_percent for run in of(runs, policy, trace)) for trace in _traces(runs)
    }


def _with_interval(found: Callable[[Sequence[str]], float], traces: list[str]) -> Ratio:
    """Bootstrap over traces: the runs of one trace are much alike and count as one."""
    rng = Random(1)
    values = sorted(found(rng.choices(traces, k=len(traces))) for _ in range(RESAMPLES))
    outside = round((1.0 - INTERVAL) / 2 * RESAMPLES)
    return Ratio(found(traces), values[outside], values[-1 - outside])


def worse_on_both(runs: Sequence[Run], ours: str, peer: str) -> list[Run]:
    """Return our runs that were later than the peer's and took more hours too."""
    peers = {run.case: run for run in of(runs, peer)}
    return [
        run
        for run in of(runs, ours)
        if run.late_percent > peers[run.case].late_percent and run.hours > peers[run.case].hours
    ]
