"""Which bounds hold at which time: windows, their ends, their overlaps, and both clock changes."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from serai.spec.scaling import Autoscaling, Window
from serai.units import Duration
from serai_scheduler.autoscale.schedule import bounds_at, window_at

BERLIN = "Europe/Berlin"
ORDINARY = (1, 10)
HOUR_S = 3600.0


def wall(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN), fold=fold).timestamp()


def window(
    cron: str, hours: float, low: int | None = None, high: int | None = None, zone: str = BERLIN
) -> Window:
    return Window(cron=cron, timezone=zone, min=low, max=high, for_=Duration(hours * HOUR_S))


def block(*windows: Window) -> Autoscaling:
    return Autoscaling(min_replicas=1, max_replicas=10, schedule=windows)


WORK = window("0 8 * * 1-5", 10, 5, 40)


def test_without_a_schedule_the_ordinary_bounds_hold() -> None:
    assert bounds_at(block(), wall("2026-06-01T09:00")) == ORDINARY


@pytest.mark.parametrize(
    ("time", "bounds"),
    [
        ("2026-06-01T07:59:59", ORDINARY),
        ("2026-06-01T08:00:00", (5, 40)),
        ("2026-06-01T17:59:59", (5, 40)),
        ("2026-06-01T18:00:00", ORDINARY),
        ("2026-06-06T09:00:00", ORDINARY),  # a Saturday
    ],
)
def test_a_window_holds_from_its_first_second_to_its_last(
    time: str, bounds: tuple[int, int]
) -> None:
    assert bounds_at(block(WORK), wall(time)) == bounds


def test_parts_of_a_second_count() -> None:
    assert bounds_at(block(WORK), wall("2026-06-01T08:00:00") - 0.001) == ORDINARY
    assert bounds_at(block(WORK), wall("2026-06-01T18:00:00") - 0.001) == (5, 40)


def test_a_bound_that_a_window_leaves_out_is_the_ordinary_one() -> None:
    at_s = wall("2026-06-01T09:00")
    assert bounds_at(block(window("0 8 * * *", 2, low=3)), at_s) == (3, 10)
    assert bounds_at(block(window("0 8 * * *", 2, high=2)), at_s) == (1, 2)
    assert bounds_at(block(window("0 8 * * *", 2, low=0, high=1)), at_s) == (0, 1)


def test_of_windows_that_overlap_the_one_that_began_last_wins() -> None:
    noon = window("0 12 * * *", 1, 20, 80)
    for schedule in (block(WORK, noon), block(noon, WORK)):
        assert bounds_at(schedule, wall("2026-06-01T11:59")) == (5, 40)
        assert bounds_at(schedule, wall("2026-06-01T12:30")) == (20, 80)
        assert bounds_at(schedule, wall("2026-06-01T13:00")) == (5, 40)


def test_of_windows_that_begin_together_the_later_in_the_list_wins() -> None:
    other = window("0 8 * * *", 1, 2, 3)
    assert bounds_at(block(WORK, other), wall("2026-06-01T08:30")) == (2, 3)
    assert bounds_at(block(other, WORK), wall("2026-06-01T08:30")) == (5, 40)


def test_a_window_lasts_over_midnight_and_over_months() -> None:
    night = block(window("0 22 31 * *", 72, 7, 9))
    assert bounds_at(night, wall("2026-01-31T23:00")) == (7, 9)
    assert bounds_at(night, wall("2026-02-03T21:59")) == (7, 9)
    assert bounds_at(night, wall("2026-02-03T22:00")) == ORDINARY


def test_a_window_follows_its_time_zone_through_the_year() -> None:
    for day in ("2026-01-12", "2026-07-13"):
        assert bounds_at(block(WORK), wall(f"{day}T08:00")) == (5, 40)
    in_utc = block(window("0 8 * * *", 1, 5, 40, "UTC"))
    assert bounds_at(in_utc, wall("2026-01-12T09:30")) == (5, 40)
    assert bounds_at(in_utc, wall("2026-07-13T09:30")) == ORDINARY
    assert bounds_at(in_utc, wall("2026-07-13T10:30")) == (5, 40)


def test_a_start_that_spring_skips_is_made_up_when_the_clock_has_changed() -> None:
    schedule = block(window("30 2 * * *", 1, 5, 40))
    assert bounds_at(schedule, wall("2026-03-29T01:59:59")) == ORDINARY
    assert bounds_at(schedule, wall("2026-03-29T03:00:00")) == (5, 40)
    assert bounds_at(schedule, wall("2026-03-29T03:59:59")) == (5, 40)
    assert bounds_at(schedule, wall("2026-03-29T04:00:00")) == ORDINARY


def test_a_start_that_autumn_repeats_counts_once() -> None:
    schedule = block(window("30 2 * * *", 0.5, 5, 40))
    assert bounds_at(schedule, wall("2026-10-25T02:30")) == (5, 40)
    assert bounds_at(schedule, wall("2026-10-25T02:59:59")) == (5, 40)
    assert bounds_at(schedule, wall("2026-10-25T02:30", fold=1)) == ORDINARY


@pytest.mark.parametrize(("day", "ends"), [("2026-03-28", "11:00"), ("2026-10-24", "09:00")])
def test_a_window_lasts_as_long_in_a_night_with_a_clock_change(day: str, ends: str) -> None:
    schedule = block(window("0 22 * * *", 12, 5, 40))
    running = window_at(schedule, wall(f"{day}T23:00"))
    assert running is not None
    next_day = datetime.fromtimestamp(running.ends_s, ZoneInfo(BERLIN))
    assert next_day.strftime("%H:%M") == ends
    assert bounds_at(schedule, running.ends_s - 1) == (5, 40)
    assert bounds_at(schedule, running.ends_s) == ORDINARY


def test_asking_every_five_minutes_of_two_months_finds_every_window() -> None:
    schedule = block(window("15 9 * * 1", 3, 5, 40))
    begin_s = wall("2026-01-01T00:00")
    minutes = range(0, 60 * 24 * 60, 5)
    on = [m for m in minutes if bounds_at(schedule, begin_s + m * 60.0) == (5, 40)]
    assert len(on) == 8 * 36  # the Mondays of sixty days, three hours each


def test_it_tells_which_window_is_on() -> None:
    noon = window("0 12 * * *", 1, 20, 80)
    running = window_at(block(WORK, noon), wall("2026-06-01T12:30"))
    assert running is not None
    assert (running.index, running.began_s) == (1, wall("2026-06-01T12:00"))
    assert window_at(block(WORK, noon), wall("2026-06-01T20:00")) is None
