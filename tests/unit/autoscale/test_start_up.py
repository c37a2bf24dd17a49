"""How long a start takes: from the general to the particular, kept, and aged."""

import msgspec
import pytest

from serai_scheduler.autoscale.start_up import (
    OLD_AFTER_S,
    PLACES_KEPT,
    PRIOR_S,
    TIMES_OF_ALL,
    KeptStartUp,
    StartUp,
    Times,
)


def _after(*times_s: float) -> StartUp:
    start_up = StartUp()
    for number, took_s in enumerate(times_s):
        start_up.add(float(number), "h100", "warm", took_s)
    return start_up


def test_without_any_start_the_prior_is_told() -> None:
    assert StartUp().told_s(0.0) == PRIOR_S


def test_a_new_api_is_told_what_all_others_need() -> None:
    everyone = Times(TIMES_OF_ALL)
    other = StartUp(everyone)
    for number in range(3):
        other.add(float(number), "h100", "cold", 90.0)
    assert StartUp(everyone).told_s(10.0, "l4", "warm") == pytest.approx(90.0)


def test_class_and_cache_state_are_told_apart() -> None:
    start_up = _after(5.0, 5.0, 5.0)
    for number in range(3):
        start_up.add(10.0 + number, "h100", "cold", 60.0)
    assert start_up.told_s(20.0, "h100", "warm") == pytest.approx(5.0)
    assert start_up.told_s(20.0, "h100", "cold") == pytest.approx(60.0)


def test_one_wild_time_moves_little() -> None:
    assert _after(5.0, 5.0, 900.0, 5.0, 5.0, 5.0).told_s(9.0, "h100", "warm") == pytest.approx(5.0)


def test_old_times_are_forgotten_and_impossible_ones_left_out() -> None:
    assert _after(5.0, 5.0, 5.0).told_s(OLD_AFTER_S + 9.0, "h100", "warm") == PRIOR_S
    assert _after(-1.0, float("nan"), float("inf")).told_s(9.0) == PRIOR_S


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}", "\x01"])
def test_what_is_kept_is_small_and_comes_back(letter: str) -> None:
    start_up = StartUp()
    for number in range(3 * PLACES_KEPT):
        for again in range(9):
            start_up.add(10.0 * number + again, f"{number}{30 * letter}", "cold", 12345.6 + again)
    kept = msgspec.json.encode(start_up.keep(1_000_000.0))
    assert len(kept) <= 1536
    assert len(start_up.keep(1_000_000.0).places) >= (PLACES_KEPT if letter == "x" else 4)
    restored = StartUp()
    restored.restore(50.0, msgspec.json.decode(kept, type=KeptStartUp))
    assert restored.keep(50.0) == start_up.keep(1_000_000.0)


def test_another_versions_value_is_left_out() -> None:
    restored = StartUp()
    restored.restore(0.0, KeptStartUp(_after(5.0).keep(9.0).places, version=99))
    assert restored.told_s(0.0) == PRIOR_S
