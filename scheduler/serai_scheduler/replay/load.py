"""Recorded slots as single requests: what was counted by ten seconds, spread by chance. Pure."""

import math
from collections.abc import Callable, Mapping
from itertools import accumulate

from serai.report import DEMAND_SLOT_S, DemandSlot
from serai_scheduler.replay.system import Load

AROUND_SLOTS = 30
"""How long requests run is the mean over so many slots before and after: five minutes each."""

Chance = Callable[[], float]
"""Returns numbers from 0 up to 1 by chance, the same ones for the same seed."""


def mean_service_s(slots: Mapping[int, DemandSlot]) -> float | None:
    """Return how long a request ran in the mean, None where none ended."""
    completions = sum(one.completions for one in slots.values())
    return sum(one.busy_s for one in slots.values()) / completions if completions else None


def load_of(slots: Mapping[int, DemandSlot], first: int, last: int, chance: Chance) -> Load:
    """Return the requests of the slots from `first` up to `last`, times since `first` began.

    Within a slot they come at any time with the same chance (a Poisson stream, given their number).
    Each runs for an exponential time of the mean of the minutes around it.
    """
    usual_s = mean_service_s(slots) or 0.0
    busy_s = [0.0, *accumulate(_of(slots, n).busy_s for n in range(first, last))]
    ended = [0, *accumulate(_of(slots, n).completions for n in range(first, last))]
    arrivals_s: list[float] = []
    services_s: list[float] = []
    for place in range(last - first):
        count = _of(slots, first + place).arrivals
        arrivals_s += sorted(DEMAND_SLOT_S * (place + chance()) for _ in range(count))
        low, high = max(0, place - AROUND_SLOTS), min(last - first, place + AROUND_SLOTS + 1)
        some = ended[high] - ended[low]
        mean_s = (busy_s[high] - busy_s[low]) / some if some else usual_s
        services_s += (-mean_s * math.log(1.0 - chance()) for _ in range(count))
    return Load(arrivals_s, services_s)


def _of(slots: Mapping[int, DemandSlot], number: int) -> DemandSlot:
    return slots.get(number, _IDLE)


_IDLE = DemandSlot()
