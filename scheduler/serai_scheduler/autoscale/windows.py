"""Highest values, means and sums over the last seconds, each in constant time per entry.

Times are monotonic seconds that never fall. What is kept of a window for another process holds ages
in their place: seconds before the moment of keeping.
"""

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import msgspec

LARGEST = 1e9
"""No amount that is kept is larger."""
DIGITS = 4
"""What is kept has so many digits that count."""
MEAN_PARTS = 12
ROUGH = 64
"""Falling values beyond so many are thinned out in one pass before the best are looked for."""

Amount = Annotated[float, msgspec.Meta(ge=0.0, le=LARGEST)]
Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class KeptPoint(msgspec.Struct, array_like=True, frozen=True):
    """A value and how long before the moment of keeping it was, in whole seconds."""

    age_s: Count
    value: Amount


class Highest:
    """The highest value of the last `window_s` seconds, and when it was."""

    __slots__ = ("_entries", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._entries: deque[tuple[float, float]] = deque()
        """Falling values: what a later and higher one has overtaken is gone."""

    def add(self, at_s: float, value: float) -> None:
        """Take in a value; `at_s` is not before any that came earlier."""
        entries = self._entries
        while entries and entries[-1][1] <= value:
            entries.pop()
        entries.append((at_s, value))
        self._forget(at_s)

    def at(self, now_s: float) -> tuple[float, float]:
        """Return when the highest value was and what it is; (`now_s`, 0.0) without any."""
        self._forget(now_s)
        return self._entries[0] if self._entries else (now_s, 0.0)

    def keep(self, at_s: float, most: int) -> tuple[KeptPoint, ...]:
        """Return at most so many points, the oldest first, that hold no less than this does."""
        self._forget(at_s)
        return tuple(
            KeptPoint(max(0, math.floor(at_s - since_s)), upwards(value))
            for since_s, value in coarse(list(self._entries), most)
        )

    def restore(self, at_s: float, kept: Sequence[KeptPoint]) -> None:
        """Take in what was kept at `at_s`; nothing else has come yet."""
        for point in sorted(kept, key=lambda point: -point.age_s):
            self.add(at_s - point.age_s, point.value)

    def _forget(self, now_s: float) -> None:
        entries = self._entries
        while entries and entries[0][0] <= now_s - self._window_s:
            entries.popleft()


class Mean:
    """The mean of a value over the last seconds, each entry weighted by the time it stands for."""

    __slots__ = ("_entries", "_total", "_total_s", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._entries: deque[tuple[float, float]] = deque()
        self._total = self._total_s = 0.0

    def add(self, value: float, elapsed_s: float) -> None:
        """Take in what held for `elapsed_s` until now."""
        self._entries.append((value * elapsed_s, elapsed_s))
        self._total += value * elapsed_s
        self._total_s += elapsed_s
        # A day of sums and differences leaves a rest far below what any decision sees.
        while len(self._entries) > 1 and self._total_s - self._entries[0][1] >= self._window_s:
            product, span_s = self._entries.popleft()
            self._total -= product
            self._total_s -= span_s

    def restore(self, value: float) -> None:
        """Begin as if the value had held for the whole window."""
        for _ in range(MEAN_PARTS):
            self.add(value, self._window_s / MEAN_PARTS)

    @property
    def value(self) -> float:
        """The mean, 0.0 before the first entry."""
        return max(0.0, self._total / self._total_s) if self._total_s else 0.0


class Sums:
    """Two sums over the last `window_s` seconds, in steps of `step_s`."""

    __slots__ = ("_entries", "_first", "_second", "_step_s", "_window_s")

    def __init__(self, window_s: float, step_s: float) -> None:
        self._window_s, self._step_s = window_s, step_s
        self._entries: deque[list[float]] = deque()
        """When each step began, and its two sums."""
        self._first = self._second = 0.0

    def add(self, at_s: float, first: float, second: float) -> None:
        """Take in what came at `at_s`."""
        entries = self._entries
        if not entries or at_s - entries[-1][0] >= self._step_s:
            entries.append([at_s, 0.0, 0.0])
        entries[-1][1] += first
        entries[-1][2] += second
        self._first += first
        self._second += second
        while entries[0][0] <= at_s - self._window_s:
            _, gone_first, gone_second = entries.popleft()
            self._first -= gone_first
            self._second -= gone_second

    def keep(self, at_s: float, parts: int) -> tuple[tuple[float, float], ...]:
        """Return both sums over equal parts of the window before `at_s`, the newest first."""
        found = [[0.0, 0.0] for _ in range(parts)]
        for since_s, first, second in self._entries:
            place = int((at_s - since_s) * parts / self._window_s)
            if place < parts:
                found[max(0, place)][0] += first
                found[max(0, place)][1] += second
        return tuple((shortly(first), shortly(second)) for first, second in found)

    def restore(self, at_s: float, kept: Sequence[tuple[float, float]]) -> None:
        """Take in what was kept at `at_s`, each part in its middle; nothing else has come yet."""
        part_s = self._window_s / max(1, len(kept))
        for place in range(len(kept) - 1, -1, -1):
            self.add(at_s - (place + 0.5) * part_s, *kept[place])

    @property
    def totals(self) -> tuple[float, float]:
        """Both sums."""
        return max(0.0, self._first), max(0.0, self._second)


def coarse(falling: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Return at most `most` of falling values with their times, never lower at any time.

    Of two neighbours that become one, the higher value is kept until the later time. Those go first
    that make the least difference.
    """
    points = list(falling)
    if len(points) > ROUGH:
        grain = (points[0][1] - points[-1][1]) / (ROUGH - 1)
        thinned = points[:1]
        for at_s, value in points[1:]:
            if thinned[-1][1] - value < grain:
                thinned[-1] = (at_s, thinned[-1][1])
            else:
                thinned.append((at_s, value))
        points = thinned
    while len(points) > max(1, most):
        added = [(b[0] - a[0]) * (a[1] - b[1]) for a, b in pairwise(points)]
        place = added.index(min(added))
        points[place : place + 2] = [(points[place + 1][0], points[place][1])]
    return points


def shortly(value: float) -> float:
    """Return an amount with as many digits as are kept."""
    return float(f"{min(LARGEST, max(0.0, value)):.{DIGITS}g}")


def upwards(value: float) -> float:
    """Return an amount with as many digits as are kept, never a lower one."""
    short = shortly(value)
    if short >= min(value, LARGEST):
        return short
    return shortly(short + 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS))
