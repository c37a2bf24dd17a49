"""How long what was needed is kept, learned from what letting go has cost.

Traffic that came once in the last quarter of an hour often comes again; how long to wait for it
differs from API to API. Three windows are held against what was needed after each.
"""

from collections import deque

from serai_scheduler.autoscale.headroom import (
    JUDGED_BEFORE_MIXING,
    LONGEST_AHEAD_S,
    STEP_S,
    aged,
    mixed,
    shortfall_cost,
    steps_ahead,
)
from serai_scheduler.autoscale.windows import Highest

WINDOWS_S = (300.0, 900.0, 2700.0)
SHORTFALL_SHARE = 0.02
HALF_LIFE_S = 20_000.0
SHARPNESS = 3.0


class Hold:
    """Takes in the need every `STEP_S`; tells what is kept, all in slots."""

    def __init__(self, windows_s: tuple[float, ...] = WINDOWS_S) -> None:
        self._highest = [Highest(window_s) for window_s in windows_s]
        self._costs = [0.0] * len(windows_s)
        longest = 2 + int(LONGEST_AHEAD_S / STEP_S)
        self._held: deque[list[float]] = deque(maxlen=longest)
        self._demands: deque[float] = deque(maxlen=longest)
        self._judged = 0

    def add(self, at_s: float, need: float) -> None:
        """Remember a need."""
        for highest in self._highest:
            highest.add(at_s, need)

    def judge(self, at_s: float, demand: float, ahead_s: float) -> float:
        """Return the slots to keep, and learn from the demand of this step."""
        self._demands.append(demand)
        steps = steps_ahead(ahead_s)
        if len(self._held) >= steps:
            most = max(self._demands[-number] for number in range(1, steps + 1))
            for place, kept in enumerate(self._held[-steps]):
                cost = shortfall_cost(most - kept, SHORTFALL_SHARE)
                self._costs[place] = aged(self._costs[place], cost, HALF_LIFE_S)
            self._judged += 1
        held = [highest.at(at_s)[1] for highest in self._highest]
        self._held.append(held)
        if self._judged < JUDGED_BEFORE_MIXING:
            return held[-1]
        return mixed(held, self._costs, SHARPNESS)

    def peak(self, now_s: float) -> tuple[float, float]:
        """Return when the highest need of the longest window was, and what it was."""
        return self._highest[-1].at(now_s)
