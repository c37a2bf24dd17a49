"""How much more than now is to be had ready, learned from how wrong past guesses were.

Four guesses of the highest demand until a replica that is asked for now would be ready, each
lifted by a quantile of its own past relative errors, mixed by what their errors have cost.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import msgspec

from serai_scheduler.autoscale.windows import Amount, Count, Highest, KeptPoint, shortly

STEP_S = 5.0
"""The time between two guesses."""
LONGEST_AHEAD_S = 600.0
PEAK_WINDOWS_S = (300.0, 900.0)
SHORTFALL_SHARE = 0.4
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
GUESSES = 2 + len(PEAK_WINDOWS_S)
KEPT_SHARES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The quantiles that are kept of the errors: most about the one that lifts, and that one itself."""
LARGEST_KEPT_ERROR = 999.0
KEPT_PEAKS = 6

KeptError = Annotated[float, msgspec.Meta(ge=-1000.0, le=1000.0)]


class KeptErrors(msgspec.Struct, array_like=True, frozen=True):
    """The errors of one guess: how many were judged, and their quantiles at KEPT_SHARES."""

    judged: Count
    quantiles: Annotated[
        tuple[KeptError, ...],
        msgspec.Meta(min_length=len(KEPT_SHARES), max_length=len(KEPT_SHARES)),
    ]


class KeptHeadroom(msgspec.Struct, array_like=True, frozen=True):
    """What outlives a restart: errors and costs by guess, and the latest peaks of demand."""

    judged: Count
    errors: Annotated[tuple[KeptErrors, ...], msgspec.Meta(min_length=GUESSES, max_length=GUESSES)]
    costs: Annotated[tuple[Amount, ...], msgspec.Meta(min_length=GUESSES, max_length=GUESSES)]
    peaks: Annotated[tuple[KeptPoint, ...], msgspec.Meta(max_length=KEPT_PEAKS)]


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

    @property
    def learned(self) -> float:
        """How many of those it began with have given way, as a share."""
        return min(1.0, self._judged / ERRORS_FIRST)

    def quantile(self, share: float) -> float:
        """Return the error that a share of all lies below."""
        count = len(self._in_order)
        return self._in_order[rank(share, count)]

    def keep(self) -> KeptErrors:
        """Return what is to outlive a restart; no quantile becomes lower."""
        quantiles = (self.quantile(share) for share in KEPT_SHARES)
        return KeptErrors(
            judged=min(ERRORS_KEPT, self._judged),
            quantiles=tuple(
                min(LARGEST_KEPT_ERROR, max(-LARGEST_KEPT_ERROR, math.ceil(1000 * each) / 1000))
                for each in quantiles
            ),
        )

    def restore(self, kept: KeptErrors) -> None:
        """Take in what was kept: as many errors as there were, between the quantiles evenly.

        Which of them came first is not kept: they go in an order that is none, so that those that
        are left are always spread alike.
        """
        count = min(ERRORS_KEPT, max(ERRORS_FIRST, kept.judged))
        self._judged = min(ERRORS_KEPT, kept.judged)
        self._in_order = spread(sorted(kept.quantiles), count)
        stride = next(n for n in range(int(0.618 * count), count) if math.gcd(n, count) == 1)
        self._by_age = deque(self._in_order[number * stride % count] for number in range(count))


class Headroom:
    """Takes in the demand every `STEP_S`; tells what is to be ready for it."""

    def __init__(self) -> None:
        count = GUESSES
        self._peaks = [Highest(window_s) for window_s in PEAK_WINDOWS_S]
        self._errors = [Errors() for _ in range(count)]
        self._costs = [0.0] * count
        longest = 2 + math.ceil(LONGEST_AHEAD_S / STEP_S)
        self._demands: deque[float] = deque(maxlen=longest)
        self._guesses: deque[tuple[list[float], list[float]]] = deque(maxlen=longest)
        """What was guessed, and the same lifted."""
        self._lifts = [errors.quantile(1.0 - SHORTFALL_SHARE) for errors in self._errors]
        self._steps = self._judged = 0

    def add(
        self, at_s: float, now: float, steady: float, ahead_s: float, floor: float, ample: bool
    ) -> float:
        """Return the slots to have in `ahead_s`; `now` and `steady` are the demand in slots.

        `floor` is the slots that errors are relative to, together with the guess. Where there is
        `ample` room by any account, it is trusted only as far as errors have been learned: what
        the first ones are taken to be is no reason for a second replica.
        """
        for peak in self._peaks:
            peak.add(at_s, now)
        guess = [now, steady, *(peak.at(at_s)[1] for peak in self._peaks)]
        self._demands.append(now)
        self._judge(steps_ahead(ahead_s), floor)
        if self._steps % QUANTILE_STEPS == 0:
            self._lifts = [errors.quantile(1.0 - SHORTFALL_SHARE) for errors in self._errors]
        self._steps += 1
        beside = floor * self._errors[0].learned if ample else floor
        lifted = [
            max(0.0, each + lift * (each + beside))
            for each, lift in zip(guess, self._lifts, strict=True)
        ]
        self._guesses.append((guess, lifted))
        if self._judged < JUDGED_BEFORE_MIXING:
            return max(lifted[:2])
        return mixed(lifted, self._costs)

    def recall(self, at_s: float, now: float) -> None:
        """Take in a demand of the past, of which no guess was made."""
        for peak in self._peaks:
            peak.add(at_s, now)

    def keep(self, at_s: float) -> KeptHeadroom:
        """Return what is to outlive a restart; guesses that were not judged yet are not."""
        return KeptHeadroom(
            judged=min(JUDGED_BEFORE_MIXING, self._judged),
            errors=tuple(errors.keep() for errors in self._errors),
            costs=tuple(shortly(cost) for cost in self._costs),
            peaks=self._peaks[-1].keep(at_s, KEPT_PEAKS),
        )

    def restore(self, at_s: float, kept: KeptHeadroom) -> None:
        """Take in what was kept at `at_s`; nothing else has come yet."""
        self._judged, self._costs = kept.judged, list(kept.costs)
        for errors, each in zip(self._errors, kept.errors, strict=True):
            errors.restore(each)
        for peak in self._peaks:
            peak.restore(at_s, kept.peaks)

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

    def add(
        self, at_s: float, now: float, steady: float, ahead_s: float, floor: float, ample: bool
    ) -> float:
        """Return the slots to have; parameters as for `Headroom`."""
        return now * (1.0 + self._share)

    def recall(self, at_s: float, now: float) -> None:
        """Nothing is learned, so nothing of the past matters."""

    def keep(self, at_s: float) -> None:
        """There is nothing to keep."""

    def restore(self, at_s: float, kept: "KeptHeadroom") -> None:
        """What another headroom has learned has no meaning here."""


def rank(share: float, count: int) -> int:
    """Return which of so many values in order is the quantile."""
    return min(count - 1, int(share * count))


def spread(quantiles: Sequence[float], count: int) -> list[float]:
    """Return `count` values in order that have these quantiles at KEPT_SHARES."""
    values = [quantiles[0]]
    ranks = [rank(share, count) for share in KEPT_SHARES]
    for (low, first), (high, last) in pairwise(zip(ranks, quantiles, strict=True)):
        part = (last - first) / max(1, high - low)
        values += [first + part * number for number in range(1, high - low)]
        values += [last] if high > low else []
    return values


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
