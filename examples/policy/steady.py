"""A policy that follows the mean of a window, and gives nothing back for ten minutes."""

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

KEPT_S = 600.0


class Steady:
    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._load: deque[tuple[float, float]] = deque()
        self._counts: deque[tuple[float, int]] = deque()

    def decide(self, now_s: float, observation: Mapping[str, float]) -> int:
        """Return how many replicas there are to be."""
        if not self._counts:  # just made: what stands is all that is known of the time before
            self._counts.append((now_s, int(observation["standing"])))
        self._load.append((now_s, observation["in_flight"] + observation["queued"]))
        while self._load[0][0] <= now_s - self._window_s:
            self._load.popleft()
        mean = sum(load for _, load in self._load) / len(self._load)
        self._counts.append((now_s, math.ceil(mean / observation["target_in_flight"])))
        while self._counts[0][0] <= now_s - KEPT_S:
            self._counts.popleft()
        return max(count for _, count in self._counts)


def factory(config: Mapping[str, Any]) -> Steady:
    return Steady(config["window_s"])
