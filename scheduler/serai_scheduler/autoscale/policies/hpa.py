"""The rule of Kubernetes' horizontal autoscaler on requests per replica; KEDA drives the same.

Written anew from its documented behaviour, with its defaults; a target of its own it has none.
"""

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
class HpaOptions:
    """`target` is the share of a replica's slots that is to be used."""

    target: float = 0.7
    window_s: float = 15.0
    tolerance: float = 0.1
    downscale_stabilization_s: float = 300.0
    max_up: float = 2.0
    """One step up is at most to so many times the count, or by `max_up_replicas`."""
    max_up_replicas: int = 4
    tick_s: float = 15.0

    def __post_init__(self) -> None:
        down_s = self.downscale_stabilization_s
        check_range("hpa", "target", self.target, 0.01, 10.0)
        check_range("hpa", "window_s", self.window_s, 1.0, 3600.0)
        check_range("hpa", "tolerance", self.tolerance, 0.0, 1.0)
        check_range("hpa", "downscale_stabilization_s", down_s, 0.0, 3600.0)
        check_range("hpa", "max_up", self.max_up, 1.0, 1e6)
        check_range("hpa", "max_up_replicas", self.max_up_replicas, 1, 10_000)
        check_range("hpa", "tick_s", self.tick_s, 1.0, 60.0)


class Hpa:
    """Multiplies the count by load over target; shrinks to the highest count of some minutes."""

    def __init__(self, options: HpaOptions = HpaOptions()) -> None:
        self._options = options
        self._load = Load(options.window_s)
        self._ticks = Ticks(options.tick_s)
        self._last: Sample | None = None
        self._count: int | None = None
        self._recommended: deque[tuple[float, int]] = deque()
        self._why = ""

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second."""
        self._load.add(sample)
        self._last = sample

    def decide(self, now_s: float, limits: Limits) -> Choice:
        """Return the count of the last tick, which is now if one is due."""
        if self._count is None:
            self._count = requested(self._last)
            self._recommended.append((now_s, self._count))
        if self._ticks.due(now_s):
            self._count = self._tick(now_s, bounded(self._count, limits), limits)
        return choice(self._count, self._load.over(), limits, self._why)

    def _tick(self, now_s: float, count: int, limits: Limits) -> int:
        options = self._options
        load, slots = self._load.over(), options.target * limits.target_slots
        self._why = "the mean of the window"
        asked = needed(load, slots)
        if count and abs(load / slots / count - 1.0) <= options.tolerance:
            self._why, asked = "within the tolerance", count
        self._recommended.append((now_s, asked))
        while now_s - self._recommended[0][0] > options.downscale_stabilization_s:
            self._recommended.popleft()
        if asked < count:
            held = min(count, max(each for _, each in self._recommended))
            if held > asked:
                self._why = "the stabilization window holds it"
            return held
        most = max(int(options.max_up * count), count + options.max_up_replicas)
        if asked > most:
            self._why = "a step up is limited"
        return min(asked, most)
