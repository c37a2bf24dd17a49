"""A rule in charge of the simulated API: what it wants each second, and what comes of it. Pure.

It is told exactly what the autoscaler of a scheduler is told; metrics are exact and undelayed.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from serai.errors import ConfigError
from serai.recorded import RecordedCount
from serai.report import DEMAND_SLOT_S
from serai.spec.scaling import Autoscaling
from serai_scheduler.autoscale.decide import bounded
from serai_scheduler.autoscale.history import Sample
from serai_scheduler.autoscale.policies.policy import ChoosingPolicy
from serai_scheduler.autoscale.rules import fresh_history, limits_of, policy_of
from serai_scheduler.autoscale.start_up import PRIOR_S
from serai_scheduler.autoscale.steps import Steps
from serai_scheduler.replay.system import Load, Room, System


class Rule(Protocol):
    """Says once a second how many replicas there are to be; `now_s` counts from the beginning."""

    def count(self, now_s: float, wall_s: float, sample: Sample) -> int:
        """Return the count from what is seen now."""


class Recorded:
    """The counts that really stood, and how long starts took by then.

    `otherwise` is the count where none is known, and `start_up_s` then how long a start takes.
    """

    def __init__(
        self, counts: Sequence[RecordedCount], otherwise: int, start_up_s: float = PRIOR_S
    ) -> None:
        self._counts, self._otherwise, self._start_up_s = counts, otherwise, start_up_s
        self._since_s = [one.at_s for one in counts]

    def at(self, wall_s: float) -> RecordedCount:
        """Return what stood at a moment; before the first what it began with."""
        if not self._counts:
            return RecordedCount(at_s=wall_s, wanted=self._otherwise, start_up_s=self._start_up_s)
        return self._counts[max(0, bisect_right(self._since_s, wall_s) - 1)]

    def count(self, now_s: float, wall_s: float, sample: Sample) -> int:
        return self.at(wall_s).wanted


class Steered:
    """A policy within its limits, as the autoscaler has it; it begins without a past."""

    def __init__(self, scaling: Autoscaling, slots: int, first: int) -> None:
        history = fresh_history(scaling)
        history.stand(first)
        self._scaling, self._slots, self._count = scaling, float(slots), first
        self._policy = policy_of(scaling, history, _not_here)
        self._steps = Steps()

    def count(self, now_s: float, wall_s: float, sample: Sample) -> int:
        limits = limits_of(self._scaling, self._slots, wall_s)
        if self._policy is None:
            self._count = bounded(self._count, limits)
            return self._count
        self._policy.add(now_s, replace(sample, target_slots=limits.target_slots))
        wanted = self._policy.decide(now_s, limits).wanted
        self._count = bounded(self._steps.limited(now_s, wanted, self._scaling), limits)
        self._steps.stands(now_s, self._count)
        return self._count


def _not_here(target: str) -> ChoosingPolicy:
    raise ConfigError(f"{target} is a policy of its user's own, which no replay runs")


@dataclass(frozen=True, slots=True)
class Span:
    """What is simulated: from `began_at_s` (wall clock) on; counted after `warm_up_s`."""

    began_at_s: float
    length_s: int
    warm_up_s: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a rule after the warm-up; `replicas` by ten seconds, the most in each."""

    requests: int
    late: int
    replica_s: int
    changes: int
    replicas: tuple[int, ...]


def run(load: Load, room: Room, span: Span, recorded: Recorded, rule: Rule) -> Outcome:
    """Simulate a span; during the warm-up the rule is told all, and the recorded counts stand."""
    wanted = recorded.at(span.began_at_s).wanted
    system = System(load, room, wanted, float(span.warm_up_s))
    replica_s = changes = 0
    replicas: list[int] = []
    for second in range(span.length_s):
        seen = system.pass_second()
        now_s, wall_s = float(system.now_s), span.began_at_s + system.now_s
        stands = recorded.at(wall_s)
        counted = second >= span.warm_up_s
        if counted:
            replica_s += system.replicas
            if (second - span.warm_up_s) % DEMAND_SLOT_S == 0:
                replicas.append(0)
            replicas[-1] = max(replicas[-1], system.replicas)
        sample = Sample(
            elapsed_s=1.0,
            arrivals=seen.arrivals,
            completions=seen.completions,
            running=seen.running,
            queued=seen.queued,
            ready=system.ready,
            starting=system.starting,
            slots=float(room.slots),
            start_up_s=stands.start_up_s,
            queue_limit=room.queue_limit,
            queue_timeout_s=room.queue_timeout_s,
        )
        asked = rule.count(now_s, wall_s, sample)
        before, wanted = wanted, asked if counted else stands.wanted
        changes += counted and wanted != before
        system.follow(wanted, stands.start_up_s)
    requests = len(load.arrivals_s) - bisect_left(load.arrivals_s, span.warm_up_s)
    return Outcome(requests, system.finish(), replica_s, changes, tuple(replicas))
