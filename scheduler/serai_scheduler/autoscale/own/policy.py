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
        self._last: Sample | None = None
        self._asked_for_s: float | None = None
        """When something was last asked for, ran or waited; the start counts as such."""

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second."""
        self._untold = sample if self._untold is None else _joined(self._untold, sample)
        self._last = sample
        if self._asked_for_s is None or sample.arrivals or sample.running or sample.queued:
            self._asked_for_s = at_s

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
        count, why = self._awake(now_s, limits)
        fault = NO_ANSWER_YET if said is None else said.fault
        return Choice(bounded(count, limits), count, None, why, fault)

    def _awake(self, now_s: float, limits: Limits) -> tuple[int, str]:
        """Return the good count; none only once the API has been idle for as long as is asked."""
        since_s = now_s if self._asked_for_s is None else self._asked_for_s
        if self._good or limits.min_replicas:
            return self._good, ""
        if self._last is not None and (self._last.running or self._last.queued):
            return 1, "none is asked for, but requests run or wait"
        if now_s - since_s < limits.idle_to_zero_s:
            return 1, "none is asked for, and `idle_to_zero` is not over"
        return 0, ""


def _joined(one: Sample, other: Sample) -> Sample:
    return replace(
        other,
        elapsed_s=min(one.elapsed_s + other.elapsed_s, LONGEST_STEP_S),
        arrivals=one.arrivals + other.arrivals,
        completions=one.completions + other.completions,
    )
