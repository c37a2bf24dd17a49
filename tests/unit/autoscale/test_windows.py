"""Sliding windows against a plain count of the same."""

from random import Random

import pytest

from serai_scheduler.autoscale.windows import Highest, Mean, Sums


@pytest.mark.parametrize("seed", range(20))
def test_windows_tell_what_a_plain_count_tells(seed: int) -> None:
    rng = Random(seed)
    window_s = rng.choice([3.0, 10.0, 60.0])
    highest, mean, sums = Highest(window_s), Mean(window_s), Sums(window_s, 1.0)
    told: list[tuple[float, float, float]] = []
    now_s = 100.0
    for _ in range(300):
        elapsed_s = rng.choice([1.0, 1.0, 1.0, 2.0])
        now_s += elapsed_s
        value = float(rng.randrange(50))
        told.append((now_s, value, elapsed_s))
        highest.add(now_s, value)
        mean.add(value, elapsed_s)
        sums.add(now_s, value, 1.0)
        recent = [one for one in told if one[0] > now_s - window_s]
        assert highest.at(now_s)[1] == max(value for _, value, _ in recent)
        assert sums.totals == (sum(value for _, value, _ in recent), len(recent))
        weighed = sum(value * span for _, value, span in recent) / sum(span for *_, span in recent)
        whole = min(window_s, now_s - 100.0)
        assert abs(mean.value - weighed) <= 50 * 2.0 / whole, "but for an entry at its edge"


def test_the_highest_is_forgotten_in_time_without_new_entries() -> None:
    highest = Highest(10.0)
    highest.add(1.0, 5.0)
    highest.add(2.0, 3.0)
    assert highest.at(10.9) == (1.0, 5.0)
    assert highest.at(11.5) == (2.0, 3.0)
    assert highest.at(13.0) == (13.0, 0.0)
