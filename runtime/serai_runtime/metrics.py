"""Counts requests; prometheus-client is imported only when somebody scrapes.

Its metric objects cost 2 µs and a lock per observation and 40 ms of start-up; plain integers that
are changed on the event loop alone need neither.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

LATENCY_BOUNDS_S = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """Counts per bucket; the last bucket is for what is beyond all bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (upper bound, count up to it) as Prometheus wants them."""
        total, rows = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            rows.append(("+Inf" if bound == float("inf") else str(float(bound)), float(total)))
        return rows


class Metrics:
    """What one process counts; changed on its event loop only."""

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}
        self.latency = Histogram(LATENCY_BOUNDS_S)
        self.batches = Histogram(BATCH_BOUNDS)
        self.in_flight = 0
        self.load_s: float | None = None

    def finished(self, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.requests[status] = self.requests.get(status, 0) + 1
        self.latency.observe(seconds)

    def collect(self) -> Iterator[Any]:
        """Yield metric families; the interface of a prometheus-client collector."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        requests = CounterMetricFamily(
            "serai_runtime_requests", "Requests answered, by status.", labels=["status"]
        )
        for status, count in sorted(self.requests.items()):
            requests.add_metric([str(status)], count)
        yield requests
        yield HistogramMetricFamily(
            "serai_runtime_request_seconds",
            "Time from a request's head to the end of its answer.",
            buckets=self.latency.cumulative(),
            sum_value=self.latency.sum,
        )
        yield HistogramMetricFamily(
            "serai_runtime_batch_size",
            "Payloads per call of a batching predictor.",
            buckets=self.batches.cumulative(),
            sum_value=self.batches.sum,
        )
        yield GaugeMetricFamily(
            "serai_runtime_in_flight_requests", "Requests being handled.", value=self.in_flight
        )
        if self.load_s is not None:
            yield GaugeMetricFamily(
                "serai_runtime_load_seconds", "Import and load time.", value=self.load_s
            )


def render(metrics: Metrics) -> tuple[bytes, str]:
    """Return the metrics in Prometheus' text format and its content type."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return generate_latest(registry), CONTENT_TYPE_LATEST
