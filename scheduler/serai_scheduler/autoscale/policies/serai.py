"""Serai's own rule behind the form that all rules have."""

from serai_scheduler.autoscale.decide import Decision, Limits, decide
from serai_scheduler.autoscale.history import History, Sample


class Serai:
    """The history of one API and `decide`; each decision is told to the history."""

    def __init__(self, history: History | None = None) -> None:
        self.history = history or History()

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second."""
        self.history.add(at_s, sample)

    def decide(self, now_s: float, limits: Limits) -> Decision:
        """Return what is wanted, and let the history know."""
        decision = decide(self.history, now_s, limits)
        self.history.standing = decision.standing
        return decision
