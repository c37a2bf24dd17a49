"""Which bounds of the count hold now: those of a window of the schedule, or the ordinary ones.

Windows are matters of the wall clock: `wall_s` is seconds since 1970, given by the caller.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from serai.crons import starts_between
from serai.spec.scaling import Autoscaling

_STEP_S = 3600.0


@dataclass(frozen=True, slots=True)
class Running:
    """A window that is on: its place in the schedule, and from when to when."""

    index: int
    began_s: float
    ends_s: float


def bounds_at(scaling: Autoscaling, wall_s: float) -> tuple[int, int]:
    """Return the least and the highest count that are allowed at this time."""
    running = window_at(scaling, wall_s)
    low, high = scaling.min_replicas, scaling.max_replicas
    if running is None:
        return low, high
    window = scaling.schedule[running.index]
    return (
        low if window.min is None else window.min,
        high if window.max is None else window.max,
    )


def window_at(scaling: Autoscaling, wall_s: float) -> Running | None:
    """Return the window that is on: of several the one that began last, then the later in the list.

    It begins in its first second and is over in the second that its time has passed.
    """
    found: Running | None = None
    for index, window in enumerate(scaling.schedule):
        length_s = window.for_.seconds
        began_s = _last_start_s(window.cron, window.timezone, length_s, wall_s)
        if began_s is not None and (found is None or began_s >= found.began_s):
            found = Running(index, began_s, began_s + length_s)
    return found


def _last_start_s(cron: str, timezone: str, length_s: float, wall_s: float) -> float | None:
    """Return the last start within the `length_s` before now, None where there was none."""
    starts = _starts(cron, timezone, length_s, math.floor(wall_s / _STEP_S))
    began = [start_s for start_s in starts if wall_s - length_s < start_s <= wall_s]
    return began[-1] if began else None


@lru_cache(maxsize=20_000)
def _starts(cron: str, timezone: str, length_s: float, step: int) -> tuple[float, ...]:
    """Return the starts that matter within one hour: it is asked every second, for every API."""
    begin_s = step * _STEP_S
    return tuple(starts_between(cron, timezone, begin_s - length_s, begin_s + _STEP_S))
