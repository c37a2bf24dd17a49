"""A scheduler ends and another goes on: with what was kept, what the gateways tell, or neither."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random

import msgspec
import pytest

from serai.report import DEMAND_SLOTS, DemandSlot
from serai.spec.scaling import Metric
from serai.wire import encode
from serai_scheduler.autoscale.decide import GRAIN, LESS_FOR_S, Limits, decide
from serai_scheduler.autoscale.demand import FIRST_GUESS_S
from serai_scheduler.autoscale.history import History, Sample, Standing
from serai_scheduler.autoscale.hold import TOLD_S, Hold
from serai_scheduler.autoscale.learned import (
    LEARNED_BYTES,
    OLD_AFTER_S,
    Found,
    InForce,
    Learned,
    Told,
    keep,
    read,
    resume,
    resume_start_up,
    told,
)
from serai_scheduler.autoscale.metric.need import MetricNeed, Reading
from serai_scheduler.autoscale.start_up import KEPT_BYTES, PRIOR_S, StartUp
from serai_scheduler.autoscale.windows import Highest
from tests.support.autoscaling import Service
from tests.support.cutting import WALL_S, Cut, Watched

CUTS = (1000, 2500, 4200, 6100)
LASTED_S = (1, 20, 90, 600)
QUIET = Sample(1.0, 0, 0, 0, 0, 10, 0, 4.0, 30.0, 100)


def bursts(seed: int, calm: float, high: float) -> Callable[[int], float]:
    random, rates = Random(seed), [calm] * 300
    while len(rates) < 9000:
        rates += [calm] * random.randint(120, 900)
        rates += [high * random.uniform(0.4, 1.0)] * random.randint(20, 120)
    return rates.__getitem__


def wave(mean: float, swing: float, period_s: float) -> Callable[[int], float]:
    return lambda second: mean + swing * math.sin(2 * math.pi * second / period_s)


TRAFFIC: dict[str, tuple[Callable[[], Service], Callable[[int], float]]] = {
    "steady": (lambda: Service(ready=5), lambda _: 10.0),
    "small": (lambda: Service(service_s=0.3), bursts(3, 0.1, 3.0)),
    "bursty": (lambda: Service(ready=2, start_up_s=20), bursts(1, 2.0, 8.0)),
    "daily": (lambda: Service(ready=8), wave(20.0, 14.0, 10_800.0)),
    "1000 slots": (
        lambda: Service(slots=1000, service_s=100.0, ready=4, limits=Limits(1, 40, 1000.0)),
        wave(60.0, 30.0, 5400.0),
    ),
    "slow starts": (lambda: Service(service_s=5.0, ready=5, start_up_s=600), wave(5.0, 3.0, 9000)),
}


@cache
def ran(kind: str) -> tuple[Service, dict[tuple[int, int], int]]:
    """Run a service; return it, and when its history was kept last before each cut."""
    random = Random(7)
    kept_at = {(at, s): at - random.randint(0, 59) for at in CUTS for s in LASTED_S}
    make, rate = TRAFFIC[kind]
    service = make()
    service.history = Watched(frozenset(kept_at.values()))
    service.run(8000, rate)
    return service, kept_at


def cut(kind: str, at: int, lasted: int) -> Cut:
    service, kept_at = ran(kind)
    return Cut(service, at, lasted, kept_at[at, lasted])


@pytest.mark.parametrize("lasted", LASTED_S)
@pytest.mark.parametrize("at", CUTS)
@pytest.mark.parametrize("kind", TRAFFIC)
def test_it_decides_as_if_it_had_never_ended(kind: str, at: int, lasted: int) -> None:
    """Within one replica, or a step of a large count; what waited is told apart by nobody."""
    one = cut(kind, at, lasted)
    one.resume()
    one.go_on(1200)
    told_count = math.ceil(one.most_since_kept() / one.service.limits.target_slots)
    counts = one.counts()
    for second, (_, resumed) in enumerate(counts):
        # It looks every 5 s from its own beginning on: so much sooner or later it sees the same.
        near = [unbroken for unbroken, _ in counts[max(0, second - 5) : second + 6]]
        assert resumed >= min(near) - max(1, int(GRAIN * min(near))), second
        most = max(*near, told_count)
        if second <= LESS_FOR_S:  # what stood at the end of the one is calmly left by the other
            most = max(most, one.service.wanted[at - 1])
        assert resumed <= most + max(1, int(GRAIN * most)), second


@pytest.mark.parametrize("kind", TRAFFIC)
def test_it_never_holds_less_than_what_was_held(kind: str) -> None:
    service, kept_at = ran(kind)
    for kept in kept_at.values():
        one = Cut(service, kept, 0, kept)
        assert one.resume().held >= one.watched.held_at[kept] * (1.0 - 1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_coarser_peaks_are_never_lower(seed: int) -> None:
    random = Random(seed)
    whole = Highest(2700.0)
    for step in range(random.randint(1, 1000)):
        falling = 1000.0 * math.exp(-step / random.randint(50, 500))
        whole.add(5.3 * step, falling * random.uniform(0.5, 1.0))
    at_s = 5.3 * step + random.uniform(0.0, 60.0)
    kept = whole.keep(at_s, 12)
    assert len(kept) <= 12
    restored = Highest(2700.0)
    restored.restore(at_s, kept)
    assert restored.at(at_s)[1] <= whole.at(at_s)[1] * 1.001
    for later_s in range(0, 2700, 7):
        assert restored.at(at_s + later_s)[1] >= whole.at(at_s + later_s)[1]


def worst() -> History:
    """Return a history whose every number is long."""
    history, random = History(), Random(5)
    history.standing = decide(history, 0.0, Limits(1, 10**6, 1.0)).standing
    for second in range(3600):
        size = int(1e8 * math.exp(-second / 900) * random.uniform(0.7, 1.0))
        queued = size if second % 3 else 0
        history.add(
            second + 0.123, Sample(1.0, size, size // 3, size, queued, 9, 9, 3.3, 70.7, 10**9)
        )
        history.hold.tell(second + 0.123, float(size))
    history.standing = replace(
        decide(history, 3600.0, Limits(1, 10**9, 1.0)).standing, wanted=10**9
    )
    return history


def test_what_is_kept_is_small() -> None:
    start_up = StartUp()
    for number in range(100):
        start_up.add(20.0 * number, f"{number // 9}" + 11 * "\x01", "cold", 12345.6 + number)
    metric = MetricNeed(Metric(promql="x", target=0.001), Hold(), 1)
    for second in range(3600):
        value = 9.9999 * math.exp(-second / 900.0)
        metric.add(second + 0.123, Reading(value * (0.9 + 0.1 * (second % 7))), 70.7)
    learned = keep(worst(), start_up, 3600.5, 1_700_000_000.123, metric.keep(3600.5))
    assert len(encode(learned.history)) <= 1280, "starts have most of their room"
    starts = len(encode(start_up.keep(3600.5)))
    assert LEARNED_BYTES - len(encode(learned.history)) < starts <= KEPT_BYTES
    assert len(encode(learned)) <= LEARNED_BYTES
    assert len(learned.start_up.places) >= 4
    found = read(encode(learned), 1_700_000_010.123)
    assert found.learned == learned and found.age_s == pytest.approx(10.0, abs=0.1)


def test_what_cannot_be_used_is_left_out_with_the_reason() -> None:
    learned = keep(worst(), StartUp(), 3600.5, WALL_S)
    assert read(None, WALL_S).why == "nothing was kept"
    other = read(encode(msgspec.structs.replace(learned, version=7)), WALL_S)
    assert other.learned is None and other.why == "it is of version 7, and this scheduler reads 1"
    old = read(encode(learned), WALL_S + OLD_AFTER_S + 60.0)
    assert old.learned is None and old.why == "it is 3.0 days old"
    behind = read(encode(learned), WALL_S - 50.0)
    assert behind.learned == learned and behind.age_s == 0.0


def test_what_was_kept_before_the_guess_was_is_read() -> None:
    """By a scheduler whose guess was 3 s for ever; what is left of its window is known."""
    history = worst()
    kept = msgspec.json.decode(encode(keep(history, StartUp(), 3600.5, WALL_S)))
    assert kept["history"]["demand"].pop() == history.keep(3600.5).demand.guess_s
    found = read(encode(kept), WALL_S)
    assert found.why == "" and found.learned is not None and found.learned.history is not None
    assert found.learned.history.demand.guess_s == FIRST_GUESS_S


def test_damaged_bytes_are_never_an_error() -> None:
    data, random, unread = encode(keep(worst(), StartUp(), 3600.5, WALL_S)), Random(3), 0
    damaged = [data[:length] for length in range(0, len(data), 9)]
    damaged += [b"\xff" * 9, b"[" * 5000, b"null", b'{"version":1}', b'{"version":[]}']
    for _ in range(1500):
        place = random.randrange(len(data))
        damaged.append(data[:place] + bytes([random.randrange(256)]) + data[place + 1 :])
    for one in damaged:
        found = read(one, WALL_S + 30.0)
        unread += found.learned is None
        assert (found.learned is None) == bool(found.why)
        history = resume(found, None, 50.0, InForce(10, 4.0))
        history.add(51.0, QUIET)
        assert math.isfinite(history.held)
        assert decide(history, 51.0, Limits(1, 100, 4.0)).wanted >= 10
        resume_start_up(StartUp(), found, 50.0)
    assert unread > 200


def test_without_what_was_kept_the_gateways_maxima_are_held() -> None:
    """For a quarter of an hour from when they were; the time of service is theirs, too."""
    one = cut("bursty", 4200, 20)
    history, now, samples = one.resume(kept=False), 4220, one.watched.samples
    present = [sample.running + sample.queued for sample in samples[:now]]
    assert history.held >= max(present[now - 880 :])
    assert history.demand.service_s == pytest.approx(2.0, rel=0.2)
    for second in range(1, 900):
        one.go_on(1, lambda sample: replace(sample, arrivals=0, completions=0, running=0, queued=0))
        # Held is renewed every 5 s, a slot's maximum ends with its slot.
        assert history.held >= max(present[now + second - 880 :], default=0), second


@pytest.mark.parametrize("slots", [True, False])
def test_without_what_was_kept_nothing_shrinks_for_a_quarter_of_an_hour(slots: bool) -> None:
    past = told([DemandSlot()] * DEMAND_SLOTS, WALL_S) if slots else None
    history = resume(Found(), past, 50.0, InForce(10, 2.0))
    limits, wanted = Limits(0, 100, 2.0), []
    for second in range(51, 50 + 6000):
        history.add(float(second), QUIET)
        decision = decide(history, float(second), limits)
        history.standing = decision.standing
        wanted.append(decision.wanted)
    assert set(wanted[: int(TOLD_S) - 1]) == {10}, "not more either, whatever share is used"
    assert wanted[-1] == 0, "but not for ever"


def test_while_no_gateway_tells_time_stands_still() -> None:
    one = cut("daily", 2500, 600)
    history = one.resume(slots=False)
    assert history.held >= one.watched.held_at[one.kept_at]
    assert history.held >= one.service.wanted[2499] * 4.0
    found = read(one.watched.kept[one.kept_at], WALL_S + 3100.0)
    assert found.learned is not None and found.age_s >= 600.0
    again = resume(found, None, 9.0, InForce(0, 4.0)).keep(9.0)
    assert found.learned.history is not None
    assert again.demand == found.learned.history.demand


def test_what_was_kept_long_ago_teaches_but_does_not_tell_the_need() -> None:
    service, kept_at = ran("slow starts")
    kept = kept_at[1000, 1]
    one = Cut(service, 6100, 1, kept)
    known, new = one.resume(), one.resume(kept=False)
    assert known.held >= service.wanted[6099] * 4.0
    learned, fresh = known.headroom.keep(0.0), new.headroom.keep(0.0)
    assert learned is not None and fresh is not None and learned.errors != fresh.errors


def test_an_api_falls_asleep_when_it_would_have() -> None:
    history = History()
    history.add(1.0, replace(QUIET, arrivals=1))
    for second in range(2, 302):
        history.add(float(second), QUIET)
    found = read(encode(keep(history, StartUp(), 301.0, WALL_S)), WALL_S + 100.0)
    quiet = told([DemandSlot()] * DEMAND_SLOTS, WALL_S + 100.0)
    assert resume(found, quiet, 9000.0, InForce(1, 4.0)).idle_s(9000.0) == pytest.approx(400.0)
    called = [*quiet[:-2], Told(quiet[-2].age_s, 10.0, DemandSlot(peak=1)), quiet[-1]]
    heard = resume(found, called, 9000.0, InForce(1, 4.0))
    assert heard.idle_s(9000.0) == pytest.approx(quiet[-2].age_s)
    assert resume(found, None, 9000.0, InForce(1, 4.0)).idle_s(9000.0) == 0.0


def test_a_count_that_changed_after_the_keeping_stands() -> None:
    one = cut("daily", 4200, 20)
    one.resume()
    found = read(one.watched.kept[one.kept_at], WALL_S + 4220.0)
    standing = resume(found, (), 0.0, InForce(37, 4.0)).standing
    assert standing is not None and standing.wanted == 37 and standing.less_since_s is None


def test_a_lower_count_is_waited_for_no_longer_than_without_an_end() -> None:
    history = History()
    history.add(90.0, QUIET)
    history.standing = Standing(10, 40.0)
    found = read(encode(keep(history, StartUp(), 100.0, WALL_S)), WALL_S + 20.0)
    assert resume(found, (), 9000.0, InForce(10, 4.0)).standing == Standing(10, 8920.0)


def test_another_hold_goes_on_with_what_was_needed() -> None:
    one = cut("daily", 4200, 1)
    found = read(one.watched.kept[one.kept_at], WALL_S + one.kept_at)
    found = replace(found, learned=without_headroom(found.learned))
    history = resume(found, (), 0.0, InForce(9, 4.0), History(Hold((60.0,))))
    assert 0.0 < history.held <= one.watched.held_at[one.kept_at]


def without_headroom(learned: Learned | None) -> Learned:
    assert learned is not None and learned.history is not None
    history = msgspec.structs.replace(learned.history, headroom=None)
    return msgspec.structs.replace(learned, history=history)


def test_slots_have_the_ages_of_their_ends() -> None:
    slots = [DemandSlot(busy_s=1.0, peak=place) for place in range(DEMAND_SLOTS)]
    slots[-1] = DemandSlot(arrivals=1, busy_s=2.0, peak=7)
    found = told(slots, 123.0)
    assert [(one.age_s, one.span_s) for one in found[-3:]] == [
        (23.0, 10.0),
        (13.0, 10.0),
        (0.0, 13.0),
    ], "the one under way is told with the one before"
    assert found[0].age_s == 883.0 and found[0].slot.peak == 0
    assert found[-1].slot == DemandSlot(arrivals=1, busy_s=3.0, peak=DEMAND_SLOTS - 2)
    assert told(slots[-1:], 123.0) == (Told(0.0, 3.0, slots[-1]),) and told((), 123.0) == ()


def test_starts_are_as_old_as_they_are() -> None:
    start_up = StartUp()
    for number in range(3):
        start_up.add(100.0 + number, "h100", "warm", 75.0)
    found = read(encode(keep(History(), start_up, 150.0, WALL_S)), WALL_S + 40.0)
    again = StartUp()
    resume_start_up(again, found, 9000.0)
    assert again.told_s(9000.0, "h100", "warm") == pytest.approx(75.0)
    assert again.keep(9000.0).places[0].times[-1].age_s == 150 - 102 + 40
    resume_start_up(fresh := StartUp(), Found(), 0.0)
    assert fresh.told_s(0.0) == PRIOR_S


def test_learned_is_told_apart_by_its_version_alone() -> None:
    assert read(b'{"version":2,"shape":"new"}', 0.0).why.startswith("it is of version 2")
    assert msgspec.json.decode(encode(keep(History(), StartUp(), 0.0, 0.0)), type=Learned)
