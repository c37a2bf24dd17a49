"""A policy of one's own as any other: told every second, and held at its last good count. Pure."""

from dataclasses import replace
from typing import Protocol

from serai_scheduler.autoscale.decide import Limits, bounded
from serai_scheduler.autoscale.history import LONGEST_STEP_S, Sample
from serai_scheduler.autoscale.own.answers import Observation, Said, observation_of
from serai_scheduler.autoscale.policies.policy import Choice

NO_ANSWER_YET = "it has not answered yet"


class Oracle(Protocol):
    """Who asks the policy; neither call waits."""

    def ask(self, now_s: float, observation: Observation) -> bool:
        """Ask; say whether the question was taken (not while an earlier one is open)."""

    @property
    def said(self) -> Said | None:
        """What was said last, None before anything was."""


class OwnPolicy:
    """Asks now and takes the answer of the question before; `standing` is the count until then.

    Seconds that the policy was not asked about come with the next question, added up.
    """

    def __init__(self, oracle: Oracle, standing: int) -> None:
        self._oracle = oracle
        self._good = standing
        self._untold: Sample | None = None

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second."""
        self._untold = sample if self._untold is None else _joined(self._untold, sample)

    def decide(self, now_s: float, limits: Limits) -> Choice:
        """Return the last good count; a fault says why it is not that of the last question."""
        untold = self._untold
        if untold is not None and self._oracle.ask(
            now_s, observation_of(untold, limits, self._good)
        ):
            self._untold = None
        said = self._oracle.said
        if said is not None and said.count is not None:
            self._good = said.count
        fault = NO_ANSWER_YET if said is None else said.fault
        return Choice(bounded(self._good, limits), self._good, None, "", fault)


def _joined(one: Sample, other: Sample) -> Sample:
    whole_s = one.elapsed_s + other.elapsed_s
    elapsed_s = min(whole_s, LONGEST_STEP_S)
    part = elapsed_s / whole_s  # rates stay what they were
    return replace(
        other,
        elapsed_s=elapsed_s,
        arrivals=round(part * (one.arrivals + other.arrivals)),
        completions=round(part * (one.completions + other.completions)),
    )
