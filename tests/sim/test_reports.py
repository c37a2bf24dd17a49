"""What becomes of an API's count when reports come late, are lost, or are another life's.

The counters are true, and the API has the same traffic all the time: all that could ask for more is
how it is told. All that counts and decides is the product's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest

from serai.report import GatewayReading, VersionTraffic
from serai_scheduler.autoscale.decide import Limits, decide
from serai_scheduler.autoscale.history import History
from serai_scheduler.autoscale.signals import Signals, Supply
from serai_scheduler.traffic import FRESH_S, TrafficBook

RATE, SERVICE_S, SLOTS = 100, 0.05, 4.0
DEMAND = RATE * SERVICE_S
LEARNED_S = 900
"""By then nothing is learned any more from traffic that stays the same."""


@dataclass(frozen=True)
class Report:
    """A reading of a gateway, when it arrives at the scheduler."""

    at_s: float
    node: str
    reading: GatewayReading


@dataclass
class Told:
    """What was decided, at each look (one a second), with the look's time."""

    demand: dict[int, float] = field(default_factory=dict)
    held: dict[int, float] = field(default_factory=dict)
    wanted: dict[int, int] = field(default_factory=dict)
    known: dict[int, bool] = field(default_factory=dict)


def reading(
    read_at_s: float, arrivals: float, in_flight: int, run: str = "one", ended: float | None = None
) -> GatewayReading:
    one = VersionTraffic(
        api="iris",
        version="v1",
        in_flight=in_flight,
        arrivals=round(arrivals),
        completions=round(arrivals - in_flight if ended is None else ended),
    )
    return GatewayReading(run=run, ready=True, read_at_s=read_at_s, versions=(one,))


def looked(reports: list[Report], seconds: int, ready: int) -> Told:
    """Look once a second, with the reports that have come by then."""
    supply = Supply(ready, starting=0, slots=SLOTS, start_up_s=30.0, queue_limit=100)
    book, signals, history, told = TrafficBook(), Signals(), History(), Told()
    reports = sorted(reports, key=lambda one: one.at_s)
    for second in range(seconds):
        while reports and reports[0].at_s <= second:
            report = reports.pop(0)
            book.add(report.node, report.reading, report.at_s)
        now_s = float(second)
        heard = book.heard(now_s).known
        sample = signals.sample(book.counted("iris", now_s) if heard else None, supply)
        told.known[second] = signals.known
        if sample is None:
            continue
        history.add(now_s, sample)
        decision = decide(history, now_s, Limits(1, 100, SLOTS))
        history.standing = decision.standing
        told.demand[second] = decision.demand
        told.held[second], told.wanted[second] = decision.held, decision.wanted
    return told


def steady(
    node: str, seconds: int, read_at_s: Callable[[int], float], way_s: Callable[[int], float]
) -> list[Report]:
    """A report a second of the same traffic, read at a time and some time on its way."""
    began_s = sum(map(ord, node)) * 1000.0  # of a clock of its own
    found = []
    for number in range(1, seconds):
        at_s = read_at_s(number)
        told = reading(began_s + at_s, RATE * at_s + 5, in_flight=round(DEMAND))
        found.append(Report(at_s + way_s(number), node, told))
    return found


def follows(told: Told, begin: int) -> None:
    """Nothing is asked for beyond what was before, nothing seems to stop."""
    after = {second: one for second, one in told.demand.items() if second >= begin}
    assert len(after) > 30
    assert 0.95 * DEMAND <= min(after.values()) <= max(after.values()) <= 1.05 * DEMAND
    held = max(one for second, one in told.held.items() if second >= begin)
    assert held <= 1.02 * told.held[begin - 1]
    assert {one for second, one in told.wanted.items() if second >= begin} == {2}


@pytest.mark.parametrize("late_s", [1, 3, 5, 7, 30])
def test_reports_that_are_lost_for_a_while_ask_for_no_more(late_s: int) -> None:
    """A second without a word was one without a request; the next word was all in one second."""
    reports = steady("one", 1000, lambda n: n - 0.2, lambda n: 0.1)
    kept = [one for one in reports if not LEARNED_S <= one.at_s < LEARNED_S + late_s]
    told = looked(kept, 1000, ready=3)
    follows(told, LEARNED_S)
    silent = [second for second, known in told.known.items() if second > 2 and not known]
    assert len(silent) == max(0, late_s + 1 - FRESH_S), "silence is unknown, and only silence"


@pytest.mark.parametrize("way_s", [0.3, 1.6, 3.5])
def test_a_report_that_is_long_on_its_way_asks_for_no_more(way_s: float) -> None:
    """The newest of those that could not be sent arrives late, and the next one right after it."""
    late = range(LEARNED_S, LEARNED_S + 40, 8)
    skipped = {number + more for number in late for more in range(1, int(way_s + 0.9))}
    reports = [
        one
        for number, one in enumerate(
            steady("one", 1000, lambda n: n - 0.2, lambda n: way_s if n in late else 0.1), 1
        )
        if number not in skipped
    ]
    follows(looked(reports, 1000, ready=3), LEARNED_S)


@pytest.mark.parametrize("seed", range(3))
def test_loops_of_a_second_that_meet_do_no_harm(seed: int) -> None:
    rng = Random(seed)
    jitter = {number: rng.uniform(-0.05, 0.05) for number in range(1001)}
    reports = steady("one", 1000, lambda n: n + jitter[n], lambda n: 0.0)
    told = looked(reports, 1000, ready=3)
    follows(told, LEARNED_S)
    assert all(told.known[second] for second in range(3, 1000))
    seconds = sorted(told.demand)
    assert max(b - a for a, b in pairwise(seconds)) <= 2


def test_two_gateways_add_up_while_one_is_late() -> None:
    """One has all the traffic, the other one none; the one that is late is the busy one."""
    busy = steady("busy", 1000, lambda n: n - 0.4, lambda n: 0.1)
    busy = [one for one in busy if not LEARNED_S <= one.at_s < LEARNED_S + 4]
    idle = [Report(n - 0.9, "idle", reading(n + 7.0, 0, 0)) for n in range(1, 1000)]
    follows(looked([*busy, *idle], 1000, ready=3), LEARNED_S)


STREAMS, STREAM_S = 40, 300.0


def streams(lives: Mapping[str, range]) -> list[Report]:
    """Streams that begin and end all the time, told by agents one after the other."""
    found = []
    for run, seconds in lives.items():
        for second in seconds:
            ended = (second - seconds.start) * STREAMS // STREAM_S
            told = reading(float(second - seconds.start), ended + STREAMS, STREAMS, run, ended)
            found.append(Report(second - 0.1, "node", told))
    return found


@pytest.mark.parametrize("away_s", [1, 3, 10])
def test_an_agent_that_starts_again_asks_for_no_more(away_s: int) -> None:
    """All that ran on its HAProxy was taken for new requests: twice the streams."""
    again = 700 + away_s
    told = looked(streams({"one": range(1, 700), "two": range(again, 1000)}), 1000, ready=10)
    plain = looked(streams({"one": range(1, 1000)}), 1000, ready=10)
    for kind in ("demand", "held", "wanted"):
        with_it, without = getattr(told, kind), getattr(plain, kind)
        most = max(one for second, one in without.items() if second >= 690)
        assert max(one for second, one in with_it.items() if second >= 690) <= 1.02 * most
    assert not told.known[again] and told.known[again + 1], "what came meanwhile is unknown"


@pytest.mark.parametrize("less", [1, 150, 50_000])
def test_counters_that_jump_back_ask_for_no_more(less: int) -> None:
    reports = []
    for second in range(1, 1000):
        arrivals = RATE * second + 5 - (less if second >= LEARNED_S else 0)
        counters = reading(float(second), arrivals, round(DEMAND))
        reports.append(Report(second - 0.1, "node", counters))
    told = looked(reports, 1000, ready=3)
    follows(told, LEARNED_S)
    assert told.known[LEARNED_S] == (less < RATE), "what came meanwhile is unknown"
    assert told.known[LEARNED_S + 1]
