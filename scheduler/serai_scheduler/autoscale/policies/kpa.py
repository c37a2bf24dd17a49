"""The rule of Knative's pod autoscaler: two windows, and a panic in which nothing shrinks.

Written anew from its documented behaviour. The defaults are those of its `config-autoscaler`.
"""

import math
from dataclasses import dataclass

from serai_scheduler.autoscale.decide import Limits
from serai_scheduler.autoscale.history import Sample
from serai_scheduler.autoscale.needed import needed
from serai_scheduler.autoscale.policies.policy import (
    Choice,
    Load,
    Ticks,
    check_range,
    choice,
)
from serai_scheduler.autoscale.windows import Highest

STABLE, PANIC = 0, 1


@dataclass(frozen=True, slots=True)
class KpaOptions:
    """`target` is the share of a replica's slots that is to be used."""

    target: float = 0.7
    stable_window_s: float = 60.0
    panic_window_share: float = 0.1
    """Of the stable window."""
    panic_threshold: float = 2.0
    """How many times what is ready the short window has to ask for."""
    max_up: float = 1000.0
    """The most that one tick may multiply what is ready by."""
    max_down: float = 2.0
    """The most that one tick may divide what is ready by."""
    scale_down_delay_s: float = 0.0
    tick_s: float = 2.0

    def __post_init__(self) -> None:
        check_range("kpa", "target", self.target, 0.01, 10.0)
        check_range("kpa", "stable_window_s", self.stable_window_s, 6.0, 3600.0)
        check_range("kpa", "panic_window_share", self.panic_window_share, 0.01, 1.0)
        check_range("kpa", "panic_threshold", self.panic_threshold, 1.1, 10.0)
        check_range("kpa", "max_up", self.max_up, 1.001, 1e6)
        check_range("kpa", "max_down", self.max_down, 1.001, 1e6)
        check_range("kpa", "scale_down_delay_s", self.scale_down_delay_s, 0.0, 3600.0)
        check_range("kpa", "tick_s", self.tick_s, 1.0, 60.0)


class Kpa:
    """Follows the mean load of a minute; of some seconds while these ask for much more."""

    def __init__(self, options: KpaOptions = KpaOptions()) -> None:
        self._options = options
        panic_window_s = max(1.0, options.stable_window_s * options.panic_window_share)
        self._load = Load(options.stable_window_s, panic_window_s)
        self._ticks = Ticks(options.tick_s)
        self._panic_since_s: float | None = None
        """The last tick over the threshold, while the panic lasts."""
        self._most_in_panic = 0
        self._recent = Highest(options.scale_down_delay_s)
        self._ready = 0
        self._count: int | None = None
        self._why = ""

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second."""
        self._load.add(sample)
        self._ready = sample.ready

    def decide(self, now_s: float, limits: Limits) -> Choice:
        """Return the count of the last tick, which is now if one is due."""
        if self._count is None and self._ready > 1:
            # No history is no reason to shrink: it starts in a panic at what runs.
            self._panic_since_s, self._most_in_panic = now_s, self._ready
        if self._ticks.due(now_s) or self._count is None:
            self._count = self._delayed(now_s, self._tick(now_s, limits))
        return choice(self._count, self._load.over(STABLE), limits, self._why)

    def _tick(self, now_s: float, limits: Limits) -> int:
        options = self._options
        target = options.target * limits.target_slots
        ready = max(1, self._ready)
        lowest, highest = math.floor(ready / options.max_down), math.ceil(ready * options.max_up)
        stable = needed(self._load.over(STABLE), target)
        panic = needed(self._load.over(PANIC), target)
        if panic / ready >= options.panic_threshold:
            self._panic_since_s = now_s
        elif (
            self._panic_since_s is not None
            and now_s - self._panic_since_s > options.stable_window_s
        ):
            self._panic_since_s, self._most_in_panic = None, 0
        stable = min(max(stable, lowest), highest)
        if self._panic_since_s is None:
            self._why = "the mean of the stable window"
            return stable
        panic = min(max(panic, lowest), highest)
        self._most_in_panic = max(self._most_in_panic, stable, panic)
        self._why = "in panic: the highest count since it began"
        return self._most_in_panic

    def _delayed(self, now_s: float, count: int) -> int:
        if not self._options.scale_down_delay_s:
            return count
        self._recent.add(now_s, count)
        highest = int(self._recent.at(now_s)[1])
        if highest > count:
            self._why = "the highest count of the scale-down delay"
        return highest
