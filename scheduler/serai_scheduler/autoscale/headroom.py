"""How much more than now is to be had ready, learned from how wrong past guesses were.

Four guesses of the highest demand until a replica that is asked for now would be ready, each
lifted by a quantile of its own past relative errors, mixed by what their errors have cost.
"""

import math
from bisect import bisect_left, insort
from collections import deque

from serai_scheduler.autoscale.windows import Highest

STEP_S = 5.0
"""The time between two guesses."""
LONGEST_AHEAD_S = 600.0
PEAK_WINDOWS_S = (300.0, 900.0)
SHORTFALL_SHARE = 0.3
"""How often a guess may be too low: the price of a slot that is free, over that of one that is
missing."""
ERRORS_KEPT = 720
ERRORS_FIRST = 60
LARGEST_FIRST_ERROR = 0.45
QUANTILE_STEPS = 6
"""Quantiles of the errors move slowly; they are read every so many guesses."""
JUDGED_BEFORE_MIXING = 24
FLOOR_REPLICAS = 3.0
"""Errors are told relative to the guess and so many replicas, which keeps them sane near zero."""
HALF_LIFE_S = 20_000.0


class Errors:
    """The last relative errors of one guess, in order, so that a quantile costs nothing."""

    __slots__ = ("_by_age", "_in_order", "_judged")

    def __init__(self) -> None:
        step = LARGEST_FIRST_ERROR / (ERRORS_FIRST - 1)
        self._by_age = deque(step * number for number in range(ERRORS_FIRST))
        self._in_order = list(self._by_age)
        self._judged = 0

    def add(self, error: float) -> None:
        """Take in an error; the first ones take the places of those it began with."""
        self._by_age.append(error)
        insort(self._in_order, error)
        if self._judged < ERRORS_FIRST or len(self._by_age) > ERRORS_KEPT:
            del self._in_order[bisect_left(self._in_order, self._by_age.popleft())]
        self._judged += 1

    def quantile(self, share: float) -> float:
        """Return the error that a share of all lies below."""
        count = len(self._in_order)
        return self._in_order[min(count - 1, int(share * count))]


class Headroom:
    """Takes in the demand every `STEP_S`; tells what is to be ready for it."""

    def __init__(self) -> None:
        count = 2 + len(PEAK_WINDOWS_S)
        self._peaks = [Highest(window_s) for window_s in PEAK_WINDOWS_S]
        self._errors = [Errors() for _ in range(count)]
        self._costs = [0.0] * count
        longest = 2 + math.ceil(LONGEST_AHEAD_S / STEP_S)
        self._demands: deque[float] = deque(maxlen=longest)
        self._guesses: deque[tuple[list[float], list[float]]] = deque(maxlen=longest)
        """What was guessed, and the same lifted."""
        self._lifts = [errors.quantile(1.0 - SHORTFALL_SHARE) for errors in self._errors]
        self._steps = self._judged = 0

    def add(self, at_s: float, now: float, steady: float, ahead_s: float, floor: float) -> float:
        """Return the slots to have in `ahead_s`; `now` and `steady` are the demand in slots.

        `floor` is the slots that errors are relative to, together with the guess.
        """
        for peak in self._peaks:
            peak.add(at_s, now)
        guess = [now, steady, *(peak.at(at_s)[1] for peak in self._peaks)]
        self._demands.append(now)
        self._judge(steps_ahead(ahead_s), floor)
        if self._steps % QUANTILE_STEPS == 0:
            self._lifts = [errors.quantile(1.0 - SHORTFALL_SHARE) for errors in self._errors]
        self._steps += 1
        lifted = [
            max(0.0, each + lift * (each + floor))
            for each, lift in zip(guess, self._lifts, strict=True)
        ]
        self._guesses.append((guess, lifted))
        if self._judged < JUDGED_BEFORE_MIXING:
            return max(lifted[:2])
        return mixed(lifted, self._costs)

    def _judge(self, steps: int, floor: float) -> None:
        """Hold what was guessed `steps` ago against the highest demand since."""
        if len(self._guesses) < steps:
            return
        guess, lifted = self._guesses[-steps]
        highest = max(self._demands[-number] for number in range(1, steps + 1))
        for place, (each, high) in enumerate(zip(guess, lifted, strict=True)):
            self._errors[place].add((highest - each) / (each + floor))
            cost = shortfall_cost(highest - high, SHORTFALL_SHARE)
            self._costs[place] = aged(self._costs[place], cost, HALF_LIFE_S)
        self._judged += 1


class FixedHeadroom:
    """A share of the demand that somebody has set, in place of what would be learned."""

    def __init__(self, share: float) -> None:
        self._share = share

    def add(self, at_s: float, now: float, steady: float, ahead_s: float, floor: float) -> float:
        """Return the slots to have; parameters as for `Headroom`."""
        return now * (1.0 + self._share)


def steps_ahead(ahead_s: float) -> int:
    """Return how many steps pass until a replica that is asked for now has helped."""
    return math.ceil(min(ahead_s, LONGEST_AHEAD_S) / STEP_S) + 1


def shortfall_cost(missing: float, share: float) -> float:
    """Return the newsvendor's cost of `missing` slots (below zero: slots too many)."""
    return (1.0 - share) * missing if missing > 0.0 else -share * missing


def aged(before: float, cost: float, half_life_s: float) -> float:
    """Return the mean cost once a step has gone by."""
    kept = math.exp2(-STEP_S / half_life_s)
    return kept * before + (1.0 - kept) * cost


def mixed(values: list[float], costs: list[float], sharpness: float = 1.0) -> float:
    """Return the mean of values, weighted by how little more than the best they have cost."""
    best = min(costs)
    weights = [math.exp(-sharpness * (cost - best) / (best + 1e-6)) for cost in costs]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)
