"""What every rule is to the loop, to replays and to the bench, and what the peers' rules share."""

from dataclasses import dataclass
from typing import Protocol

from serai.errors import ConfigError
from serai_scheduler.autoscale.decide import Limits, bounded
from serai_scheduler.autoscale.history import LONGEST_STEP_S, Sample
from serai_scheduler.autoscale.windows import Mean

EARLY_S = 0.5
"""A tick may come so much early: a loop that wakes a little soon does not lose a whole second."""


class Decided(Protocol):
    """What the caller needs of any decision."""

    @property
    def wanted(self) -> int: ...

    @property
    def unbounded(self) -> int: ...


class Policy(Protocol):
    """A rule for one API: told every second, asked when the caller likes.

    `now_s` is monotonic and not before the last `at_s`. No rule reads a clock or a random number.
    """

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second."""

    def decide(self, now_s: float, limits: Limits) -> Decided:
        """Return the wanted count; the caller asks once something was added."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision of a peer's rule, or of a policy that a user brings."""

    wanted: int
    unbounded: int
    """What it would be without the bounds."""
    load: float | None
    """The requests in flight and waiting that a peer's rule saw: a mean over its window."""
    why: str
    fault: str = ""
    """Why a policy of one's own gives no count, so that its last good one is held."""
    by_traffic: int | None = None
    """What `unbounded` would be without a metric, where there is one."""


class ChoosingPolicy(Protocol):
    """A rule that is not Serai's own."""

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second."""

    def decide(self, now_s: float, limits: Limits) -> Choice:
        """Return the wanted count; the caller asks once something was added."""


class Load:
    """Requests in flight and waiting, which is what the peers take for demand.

    What held during a second is taken as half way between its ends.
    """

    __slots__ = ("_before", "_means")

    def __init__(self, *windows_s: float) -> None:
        self._means = [Mean(window_s) for window_s in windows_s]
        self._before: int | None = None

    def add(self, sample: Sample) -> None:
        """Take in a second."""
        count = sample.running + sample.queued
        before = count if self._before is None else self._before
        for mean in self._means:
            mean.add((before + count) / 2, min(sample.elapsed_s, LONGEST_STEP_S))
        self._before = count

    def over(self, window: int = 0) -> float:
        """Return the mean over the window of that number."""
        return self._means[window].value


class Ticks:
    """Says when a rule that acts every so many seconds is to act again."""

    __slots__ = ("_last_s", "_tick_s")

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._last_s: float | None = None

    def due(self, now_s: float) -> bool:
        """Say whether it is time; if so, the next time is a tick later."""
        if self._last_s is not None and now_s - self._last_s < self._tick_s - EARLY_S:
            return False
        self._last_s = now_s
        return True


def requested(sample: Sample | None) -> int:
    """Return how many replicas were asked for, as far as they run or are about to."""
    return 0 if sample is None else sample.ready + sample.starting


def choice(count: int, load: float, limits: Limits, why: str) -> Choice:
    """Return a count as a decision within the bounds."""
    return Choice(bounded(count, limits), count, load, why)


def check_range(policy: str, option: str, value: float, least: float, most: float) -> None:
    """Raise `ConfigError` when an option of a policy is out of range (or not a number)."""
    if not least <= value <= most:
        raise ConfigError(
            f"policy {policy}: {option} is {value:g}, which is not between {least:g} and {most:g}"
        )
