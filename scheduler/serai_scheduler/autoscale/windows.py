"""Highest values, means and sums over the last seconds, each in constant time per entry.

Times are monotonic seconds that never fall.
"""

from collections import deque


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

    @property
    def totals(self) -> tuple[float, float]:
        """Both sums."""
        return max(0.0, self._first), max(0.0, self._second)
