"""How long what was needed is kept, learned from what letting go has cost.

Traffic that came once in the last quarter of an hour often comes again; how long to wait for it
differs from API to API. Three windows are held against what was needed after each.
"""

from collections import deque
from typing import Annotated

import msgspec

from serai_scheduler.autoscale.headroom import (
    JUDGED_BEFORE_MIXING,
    LONGEST_AHEAD_S,
    STEP_S,
    aged,
    mixed,
    shortfall_cost,
    steps_ahead,
)
from serai_scheduler.autoscale.windows import LARGEST, Amount, Count, Highest, KeptPoint

WINDOWS_S = (300.0, 900.0, 2700.0)
SHORTFALL_SHARE = 0.03
HALF_LIFE_S = 20_000.0
SHARPNESS = 6.0
TOLD_S = 900.0
"""For so long nothing is let go of that others have told: gateways remember as much."""
KEPT_NEEDS = 12
KEPT_TOLD = 5


class KeptHold(msgspec.Struct, array_like=True, frozen=True):
    """What outlives a restart: costs by window, and needs, in slots, that hold no less."""

    judged: Count
    costs: Annotated[tuple[Amount, ...], msgspec.Meta(max_length=8)]
    needs: Annotated[tuple[KeptPoint, ...], msgspec.Meta(max_length=KEPT_NEEDS)]
    told: Annotated[tuple[KeptPoint, ...], msgspec.Meta(max_length=KEPT_TOLD)]


class Hold:
    """Takes in the need every `STEP_S`; tells what is kept, all in slots."""

    def __init__(self, windows_s: tuple[float, ...] = WINDOWS_S) -> None:
        self._highest = [Highest(window_s) for window_s in windows_s]
        self._told = Highest(TOLD_S)
        self._costs = [0.0] * len(windows_s)
        longest = 2 + int(LONGEST_AHEAD_S / STEP_S)
        self._held: deque[list[float]] = deque(maxlen=longest)
        self._demands: deque[float] = deque(maxlen=longest)
        self._judged = 0

    def add(self, at_s: float, need: float) -> None:
        """Remember a need."""
        for highest in self._highest:
            highest.add(at_s, need)

    def tell(self, at_s: float, slots: float) -> None:
        """Remember what was there by the account of others: all of it is kept for TOLD_S."""
        self._told.add(at_s, slots)

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
        self._held.append([highest.at(at_s)[1] for highest in self._highest])
        return self.kept(at_s)

    def kept(self, at_s: float) -> float:
        """Return the slots to keep, by what has been learned so far."""
        held = [highest.at(at_s)[1] for highest in self._highest]
        told = self._told.at(at_s)[1]
        if self._judged < JUDGED_BEFORE_MIXING:
            return max(told, held[-1])
        return max(told, mixed(held, self._costs, SHARPNESS))

    def peak(self, now_s: float) -> tuple[float, float]:
        """Return when the highest need of the longest window was, and what it was."""
        need, told = self._highest[-1].at(now_s), self._told.at(now_s)
        return told if told[1] > need[1] else need

    def keep(self, at_s: float) -> KeptHold:
        """Return what is to outlive a restart; the longest window has what the others have."""
        return KeptHold(
            judged=min(JUDGED_BEFORE_MIXING, self._judged),
            # To the last digit: other weights could hold less.
            costs=tuple(min(LARGEST, cost) for cost in self._costs),
            needs=self._highest[-1].keep(at_s, KEPT_NEEDS),
            told=self._told.keep(at_s, KEPT_TOLD),
        )

    def restore(self, at_s: float, kept: KeptHold) -> None:
        """Take in what was kept at `at_s`; nothing else has come yet.

        Costs of other windows than these are left out, and learned again.
        """
        if len(kept.costs) == len(self._costs):
            self._judged, self._costs = kept.judged, list(kept.costs)
        for highest in self._highest:
            highest.restore(at_s, kept.needs)
        self._told.restore(at_s, kept.told)
