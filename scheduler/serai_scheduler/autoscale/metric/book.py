"""Which metrics are asked for when, and what is known of each. Pure but for its memory.

All times are monotonic seconds of the caller: a wall clock that is set makes no answer old.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from serai_scheduler.autoscale.metric.answers import Answer
from serai_scheduler.autoscale.metric.need import NO_ANSWER_YET, NOTHING_READ, Reading

ASK_EVERY_S = 15.0
OLD_AFTER_S = 60.0
"""An answer counts for so long: three that fail after it change nothing."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be asked now."""

    api: str
    promql: str


@dataclass(slots=True)
class _Entry:
    promql: str
    since_s: float
    """When it was answered last, or first wanted."""
    due_s: float
    value: float | None = None
    fault: str = ""
    asked: bool = False
    """Whether a question is open."""


class MetricBook:
    """By API what is asked, and the last good answer."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def follow(self, now_s: float, wanted: Mapping[str, str]) -> None:
        """Ask for these from now on: by API its query. Another query begins anew.

        Several that are new at once, as for a new leader, are spread over the time between two
        questions.
        """
        for gone in self._entries.keys() - wanted.keys():
            del self._entries[gone]
        new = [
            api
            for api, promql in wanted.items()
            if api not in self._entries or self._entries[api].promql != promql
        ]
        for place, api in enumerate(new):
            due_s = now_s + ASK_EVERY_S * place / len(new)
            self._entries[api] = _Entry(wanted[api], now_s, due_s)

    def next(self, now_s: float) -> Question | None:
        """Return what has been due for longest and note that it is asked; None if nothing is."""
        due = [
            (entry.due_s, api)
            for api, entry in self._entries.items()
            if entry.due_s <= now_s and not entry.asked
        ]
        if not due:
            return None
        due_s, api = min(due)
        entry = self._entries[api]
        entry.asked = True
        # Its place in time stays, so that all remain spread; turns that were missed are gone.
        entry.due_s = due_s + ASK_EVERY_S * (1 + (now_s - due_s) // ASK_EVERY_S)
        return Question(api, entry.promql)

    def take(self, now_s: float, question: Question, answer: Answer | None) -> None:
        """Take in what came of a question, None for one that was given up."""
        entry = self._entries.get(question.api)
        if entry is None or entry.promql != question.promql:
            return  # the answer to a query of before
        entry.asked = False
        if answer is None:
            return
        entry.fault = answer.fault
        if answer.value is not None:
            entry.value, entry.since_s = answer.value, now_s

    def reading(self, now_s: float, api: str) -> Reading:
        """Return what is known of an API's metric."""
        entry = self._entries.get(api)
        if entry is None:
            return NOTHING_READ
        age_s = now_s - entry.since_s
        if entry.value is not None and age_s <= OLD_AFTER_S:
            return Reading(entry.value)
        return Reading(None, entry.fault or NO_ANSWER_YET, age_s)
