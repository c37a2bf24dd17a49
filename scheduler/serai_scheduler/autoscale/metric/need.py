"""What a metric asks for, in replicas: by its value, with what is held of its needs. Pure.

The rule is `AverageValue` of Kubernetes' horizontal autoscaler: the value over the target, rounded
up (`GetExternalPerPodMetricReplicas` in pkg/controller/podautoscaler/replica_calculator.go). Its
tolerance is left out: there it keeps counts from going up and down, which the hold does here.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import msgspec

from serai.decisions import MetricAsked
from serai.spec.scaling import Metric
from serai_scheduler.autoscale.headroom import STEP_S
from serai_scheduler.autoscale.hold import Hold, KeptHold
from serai_scheduler.autoscale.needed import needed

MOST_REPLICAS = 10_000
"""What no spec may have more of: a value beyond all bounds asks for so many."""
NAME_LENGTH = 16
NO_ANSWER_YET = "it has not been answered yet"


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a metric: its value, or None, why, and for how long already."""

    value: float | None
    fault: str = ""
    unknown_s: float = 0.0


NOTHING_READ = Reading(None, NO_ANSWER_YET)


class KeptMetric(msgspec.Struct, array_like=True, frozen=True):
    """What outlives a restart: needs in replicas, and the metric that they are of."""

    of: Annotated[str, msgspec.Meta(max_length=NAME_LENGTH)]
    hold: KeptHold


class MetricNeed:
    """Takes in a metric's readings once a second; its needs are held as those of traffic are.

    While the metric is unknown nothing of it is let go of: what was held stays, and the last need
    goes on. Where there is none, `standing` does: the count that stood when this began.
    """

    def __init__(self, metric: Metric, hold: Hold, standing: int) -> None:
        self._metric = metric
        self._hold = hold
        self._standing = standing
        self._last: float | None = None
        """The last need that is known, in replicas."""
        self._held = 0.0
        self._stepped_at_s: float | None = None

    def add(self, now_s: float, reading: Reading, start_up_s: float) -> MetricAsked:
        """Return what is asked for; `now_s` is monotonic and after that of the last time."""
        value = reading.value
        if value is not None:
            self._last = min(value / self._metric.target, float(MOST_REPLICAS))
        if self._last is not None and self._due(now_s):
            self._hold.add(now_s, self._last)
            if value is not None:
                self._held = self._hold.judge(now_s, self._last, start_up_s)
        replicas = needed(max(self._held, self._last or 0.0), 1.0)
        if value is None or self._last is None:
            unproven = self._standing if self._last is None else 0
            return MetricAsked(
                target=self._metric.target,
                replicas=max(replicas, unproven),
                fault=reading.fault,
                unknown_s=reading.unknown_s,
            )
        return MetricAsked(
            target=self._metric.target,
            replicas=replicas,
            value=value,
            now=needed(self._last, 1.0),
        )

    def keep(self, at_s: float) -> KeptMetric:
        """Return what is to outlive a restart."""
        return KeptMetric(name_of(self._metric), self._hold.keep(at_s))

    def restore(self, at_s: float, kept: KeptMetric | None) -> None:
        """Go on from what was kept of the same metric, as if no time had passed since."""
        if kept is not None and kept.of == name_of(self._metric):
            self._hold.restore(at_s, kept.hold)
            self._held = self._hold.kept(at_s)

    def _due(self, now_s: float) -> bool:
        if self._stepped_at_s is not None and now_s - self._stepped_at_s < STEP_S:
            return False
        self._stepped_at_s = now_s
        return True


def name_of(metric: Metric) -> str:
    """Return a name that another query or target has not."""
    return sha256(f"{metric.target!r} {metric.promql}".encode()).hexdigest()[:NAME_LENGTH]
