"""Cron expressions: what is refused, how often they come, and what clock changes do to them."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.crons import cron_fault, is_timezone, shortest_gap_s, starts_between, timezone_names

BERLIN = "Europe/Berlin"
DAY_S = 86_400.0


def wall(text: str, timezone: str = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("cron", "fault"),
    [
        ("0 8 * * 1-5", ""),
        ("*/15 * * * *", ""),
        ("0 0 L * *", ""),
        ("0 9 * * mon#1", ""),
        ("", "has 0 fields, not 5"),
        ("0 8 * *", "has 4 fields, not 5"),
        ("0 0 8 * * 1", "has 6 fields, not 5"),
        ("60 8 * * *", "its minute cannot be read, or never comes"),
        ("0 8 * * funday", "its day-of-week cannot be read, or never comes"),
        ("0 8 30 2 *", "its day-of-month cannot be read, or never comes"),
        ("0 8 * 2 mon#5", ""),
    ],
)
def test_what_is_wrong_with_an_expression(cron: str, fault: str) -> None:
    assert cron_fault(cron) == fault


@given(st.lists(st.text("0123456789*,/#-LW", max_size=6), min_size=5, max_size=5))
def test_any_text_is_either_refused_or_comes(fields: list[str]) -> None:
    cron = " ".join(fields)
    if not cron_fault(cron):
        assert shortest_gap_s(cron) >= 60


@pytest.mark.parametrize(
    ("cron", "gap_s"),
    [
        ("* * * * *", 60.0),
        ("*/7 * * * *", 240.0),  # from minute 56 to the full hour
        ("0 8 * * *", DAY_S),
        ("0 8 * * 1,5", 3 * DAY_S),
        ("0 0 1 * *", 28 * DAY_S),
        ("0 0 1,31 * *", DAY_S),
        ("0 0 1 1 *", 365 * DAY_S),
    ],
)
def test_the_least_time_between_two_starts(cron: str, gap_s: float) -> None:
    assert shortest_gap_s(cron) == gap_s


def test_starts_lie_after_the_first_and_up_to_the_last_second() -> None:
    first, second = wall("2026-06-01T08:00"), wall("2026-06-02T08:00")
    assert list(starts_between("0 8 * * *", BERLIN, first - 1, second)) == [first, second]
    assert list(starts_between("0 8 * * *", BERLIN, first, second - 1)) == []


def test_what_spring_skips_begins_when_the_clock_has_changed() -> None:
    begin, end = wall("2026-03-29T00:00"), wall("2026-03-29T12:00")
    assert list(starts_between("30 2 * * *", BERLIN, begin, end)) == [wall("2026-03-29T03:00")]


@pytest.mark.parametrize("after_s", [-3600.0, -600.0, 0.0, 1800.0, 3000.0])
def test_what_autumn_repeats_begins_once_wherever_one_looks_from(after_s: float) -> None:
    once = wall("2026-10-25T02:30")
    begin = wall("2026-10-25T02:10", fold=1) + after_s
    expected = [once] if once > begin else []
    assert list(starts_between("30 2 * * *", BERLIN, begin, wall("2026-10-25T12:00"))) == expected


def test_a_start_every_half_hour_comes_in_both_hours_of_autumn() -> None:
    begin, end = wall("2026-10-25T01:59"), wall("2026-10-25T03:00")
    starts = list(starts_between("*/30 * * * *", BERLIN, begin, end))
    assert [second - first for first, second in pairwise(starts)] == [1800.0] * 4


def test_time_zones() -> None:
    for name in (BERLIN, "UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+3"):
        assert is_timezone(name)
        assert name in timezone_names()
    for name in ("Europe/Berln", "Europe", "localtime", "../etc/passwd", "/etc/localtime", ""):
        assert not is_timezone(name)
    with pytest.raises(ZoneInfoNotFoundError):
        list(starts_between("0 8 * * *", "Nowhere/City", 0.0, 1.0))
