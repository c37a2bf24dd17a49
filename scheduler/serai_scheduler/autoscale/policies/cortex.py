"""The rule of Cortex's autoscaler: a mean, limited steps, and two stabilization periods.

Written anew from its documented behaviour, with its names and defaults.
"""

import math
from collections import deque
from dataclasses import dataclass

from serai_scheduler.autoscale.decide import Limits, bounded
from serai_scheduler.autoscale.history import Sample
from serai_scheduler.autoscale.needed import needed
from serai_scheduler.autoscale.policies.policy import (
    Choice,
    Load,
    Ticks,
    check_range,
    choice,
    requested,
)


@dataclass(frozen=True, slots=True)
class CortexOptions:
    """`target` is the share of a replica's slots that is to be used."""

    target: float = 1.0
    window_s: float = 60.0
    upscale_stabilization_period_s: float = 60.0
    downscale_stabilization_period_s: float = 300.0
    max_upscale_factor: float = 1.5
    max_downscale_factor: float = 0.75
    upscale_tolerance: float = 0.05
    downscale_tolerance: float = 0.05
    tick_s: float = 10.0

    def __post_init__(self) -> None:
        up_s, down_s = self.upscale_stabilization_period_s, self.downscale_stabilization_period_s
        check_range("cortex", "target", self.target, 0.01, 10.0)
        check_range("cortex", "window_s", self.window_s, 1.0, 21_600.0)
        check_range("cortex", "upscale_stabilization_period_s", up_s, 0.0, 86_400.0)
        check_range("cortex", "downscale_stabilization_period_s", down_s, 0.0, 86_400.0)
        check_range("cortex", "max_upscale_factor", self.max_upscale_factor, 1.0, 1e6)
        check_range("cortex", "max_downscale_factor", self.max_downscale_factor, 0.0, 1.0)
        check_range("cortex", "upscale_tolerance", self.upscale_tolerance, 0.0, 1e6)
        check_range("cortex", "downscale_tolerance", self.downscale_tolerance, 0.0, 1.0)
        check_range("cortex", "tick_s", self.tick_s, 1.0, 60.0)


class Cortex:
    """Recommends every tick; what it asks for is bounded by what it recommended before.

    After a start it neither grows nor shrinks until the period of that direction is over.
    """

    def __init__(self, options: CortexOptions = CortexOptions()) -> None:
        self._options = options
        self._load = Load(options.window_s)
        self._ticks = Ticks(options.tick_s)
        self._last: Sample | None = None
        self._began_s: float | None = None
        self._count = 0
        self._recommended: deque[tuple[float, int]] = deque()
        self._why = ""

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second."""
        self._load.add(sample)
        self._last = sample

    def decide(self, now_s: float, limits: Limits) -> Choice:
        """Return the count of the last tick, which is now if one is due."""
        if self._began_s is None:
            self._began_s, self._count = now_s, requested(self._last)
        if self._ticks.due(now_s):
            self._count = self._tick(now_s, self._began_s, limits)
        return choice(self._count, self._load.over(), limits, self._why)

    def _tick(self, now_s: float, began_s: float, limits: Limits) -> int:
        options, count = self._options, bounded(self._count, limits)
        asked = bounded(self._recommend(count, limits), limits)
        self._remember(now_s, asked)
        age_s = now_s - began_s
        down_s = options.downscale_stabilization_period_s
        up_s = options.upscale_stabilization_period_s
        self._why = "the mean of the window"
        if asked < count:
            if age_s < down_s:
                return self._stabilized(count)
            least = min(count, max(self._within(now_s, down_s)))
            return self._stabilized(least) if least > asked else asked
        if asked > count:
            if age_s < up_s:
                return self._stabilized(count)
            most = max(count, min(self._within(now_s, up_s)))
            return self._stabilized(most) if most < asked else asked
        return count

    def _recommend(self, count: int, limits: Limits) -> int:
        options = self._options
        load, slots = self._load.over(), options.target * limits.target_slots
        exact = load / slots
        if count * (1 - options.downscale_tolerance) < exact < count:
            return count
        if count < exact < count * (1 + options.upscale_tolerance):
            return count
        least = min(count - 1, math.ceil(count * options.max_downscale_factor))
        most = max(count + 1, math.ceil(count * options.max_upscale_factor))
        return min(max(needed(load, slots), least), most)

    def _remember(self, now_s: float, asked: int) -> None:
        options = self._options
        longest_s = max(
            options.upscale_stabilization_period_s, options.downscale_stabilization_period_s
        )
        self._recommended.append((now_s, asked))
        while now_s - self._recommended[0][0] > longest_s:
            self._recommended.popleft()

    def _within(self, now_s: float, period_s: float) -> list[int]:
        return [count for at_s, count in self._recommended if now_s - at_s <= period_s]

    def _stabilized(self, count: int) -> int:
        self._why = "a stabilization period holds it"
        return count
