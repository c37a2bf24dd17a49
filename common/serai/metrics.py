"""Metrics named `serai_<component>_<noun>_<unit>`, in a registry that is passed in.

Never the library's global registry: one process may hold several components, and tests many.
"""

import re
from collections.abc import Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""The content type of what `render` returns."""

LATENESS_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

_WORDS = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class Metrics:
    """Makes the metrics of one component; a name that breaks the rule is a ValueError."""

    def __init__(self, component: str, registry: CollectorRegistry) -> None:
        self._component = component
        self._registry = registry

    def counter(self, noun: str, unit: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Return a counter; the library adds `_total` to its name."""
        return Counter(self._name(noun, unit), text, labels, registry=self._registry)

    def gauge(self, noun: str, unit: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Return a gauge."""
        return Gauge(self._name(noun, unit), text, labels, registry=self._registry)

    def histogram(
        self,
        noun: str,
        unit: str,
        text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = LATENESS_BUCKETS_S,
    ) -> Histogram:
        """Return a histogram; `buckets` are upper bounds in `unit`."""
        name = self._name(noun, unit)
        return Histogram(name, text, labels, registry=self._registry, buckets=buckets)

    def _name(self, noun: str, unit: str) -> str:
        for word in (self._component, noun, unit):
            if not _WORDS.fullmatch(word):
                raise ValueError(f"{word!r} is no part of a metric's name: lower_case_words only")
        return f"serai_{self._component}_{noun}_{unit}"


class LoopMetrics:
    """What a supervisor tells of its loops, as metrics with the label `loop`."""

    def __init__(self, metrics: Metrics) -> None:
        label = ("loop",)
        text = "How late a loop began a tick."
        self._lateness = metrics.histogram("loop_lateness", "seconds", text, label)
        text = "Ticks of a loop that were skipped because the one before took too long."
        self._missed = metrics.counter("loop_missed", "ticks", text, label)
        text = "How often a loop failed and was started again."
        self._restarts = metrics.counter("loop", "restarts", text, label)

    def late(self, loop: str, late_s: float, missed: int) -> None:
        """Note that a tick began `late_s` after it was due, with `missed` skipped before it."""
        self._lateness.labels(loop).observe(late_s)
        self._missed.labels(loop).inc(missed)

    def restarted(self, loop: str) -> None:
        """Note that a loop failed and will be started again."""
        self._restarts.labels(loop).inc()


def render(registry: CollectorRegistry) -> bytes:
    """Return everything in `registry` in the text format of Prometheus."""
    return generate_latest(registry)
