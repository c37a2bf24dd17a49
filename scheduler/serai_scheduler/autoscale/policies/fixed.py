"""A count that never changes: for comparison, and where people want to decide."""

from dataclasses import dataclass

from serai_scheduler.autoscale.decide import Limits
from serai_scheduler.autoscale.history import Sample
from serai_scheduler.autoscale.policies.policy import Choice, Load, check_range, choice

SHOWN_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class FixedOptions:
    """`replicas` is what is wanted; the bounds hold all the same."""

    replicas: int = 1

    def __post_init__(self) -> None:
        check_range("fixed", "replicas", self.replicas, 0, 10_000)


class Fixed:
    """Wants what its options say."""

    def __init__(self, options: FixedOptions = FixedOptions()) -> None:
        self._options = options
        self._load = Load(SHOWN_WINDOW_S)

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second, only to show it."""
        self._load.add(sample)

    def decide(self, now_s: float, limits: Limits) -> Choice:
        """Return the fixed count."""
        return choice(self._options.replicas, self._load.over(), limits, "the count is fixed")
