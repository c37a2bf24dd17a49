"""What the scheduler tells Prometheus, made from its present state at each scrape."""

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from serai.decisions import ScaleDecision
from serai.operator import ApiStatus
from serai_scheduler.service import Scheduler
from serai_scheduler.views import status_of

DECIDED: dict[str, tuple[str, Callable[[ScaleDecision], float | None]]] = {
    "starting_replicas": ("Replicas that will be ready in the usual time.", lambda d: d.starting),
    "overdue_replicas": ("Replicas that should long have been ready.", lambda d: d.overdue),
    "held_back_replicas": (
        "Replicas that are wanted and have no place in the cluster.",
        lambda d: max(0, (d.desired or 0) - d.wanted) if d.held_back else 0,
    ),
    "idle_replicas": ("Warm replicas kept until others need their places.", lambda d: d.idle),
    "demand_slots": ("Requests that would run at once with room for all.", lambda d: d.demand),
    "lifted_slots": ("The demand with the learned headroom.", lambda d: d.lifted),
    "kept_slots": ("The need that is kept.", lambda d: d.held),
    "peak_slots": ("The highest need that is remembered.", lambda d: d.peak),
    "backlog_slots": ("What clears the queue.", lambda d: d.backlog),
    "metric_replicas": (
        "Replicas that the metric asks for, with what is held of it.",
        lambda d: None if d.metric is None else d.metric.replicas,
    ),
    "metric_value": (
        "The value of the metric, absent while it is unknown.",
        lambda d: None if d.metric is None else d.metric.value,
    ),
    "metric_unknown_seconds": (
        "For how long the metric has been unknown, 0 while it is known.",
        lambda d: None if d.metric is None else d.metric.unknown_s,
    ),
    "start_up_seconds": ("How long a start takes, as learned.", lambda d: d.start_up_s),
}


class _Collector:
    def __init__(
        self, statuses: list[ApiStatus], decisions: list[ScaleDecision], silent: int
    ) -> None:
        self._statuses = statuses
        self._decisions = decisions
        self._silent = silent

    def collect(self) -> Iterator[Any]:
        gauges: dict[str, tuple[str, Callable[[ApiStatus], int]]] = {
            "ready_replicas": ("Replicas that take traffic.", lambda s: s.ready),
            "wanted_replicas": ("Replicas that are wanted.", lambda s: s.wanted),
            "in_flight_requests": ("Requests being served.", lambda s: s.traffic.in_flight),
            "queued_requests": ("Requests that wait for a slot.", lambda s: s.traffic.queued),
            "held_requests": ("Requests that wait for a replica.", lambda s: s.traffic.held),
        }
        for name, (text, value) in gauges.items():
            gauge = GaugeMetricFamily(f"serai_scheduler_{name}", text, labels=["api"])
            for status in self._statuses:
                gauge.add_metric([status.name], value(status))
            yield gauge
        for name, (text, part) in DECIDED.items():
            gauge = GaugeMetricFamily(f"serai_scheduler_{name}", text, labels=["api"])
            for decision in self._decisions:
                if (told := part(decision)) is not None:
                    gauge.add_metric([decision.api], told)
            yield gauge
        responses = CounterMetricFamily(
            "serai_scheduler_responses", "Responses by class.", labels=["api", "class"]
        )
        for status in self._statuses:
            responses.add_metric([status.name, "2xx"], status.traffic.responses_2xx)
            responses.add_metric([status.name, "4xx"], status.traffic.responses_4xx)
            responses.add_metric([status.name, "5xx"], status.traffic.responses_5xx)
        yield responses
        refused = CounterMetricFamily(
            "serai_scheduler_refused_requests",
            "Requests that ended without having reached a replica.",
            labels=["api"],
        )
        for status in self._statuses:
            refused.add_metric([status.name], status.traffic.refused)
        yield refused
        yield GaugeMetricFamily(
            "serai_scheduler_silent_nodes", "Nodes whose reports stopped.", value=self._silent
        )


async def render(scheduler: Scheduler) -> bytes:
    """Return the metrics in Prometheus' text format."""
    now_s = scheduler.clock.now()
    apis = await scheduler.state.read()
    statuses = [
        status_of(stored, scheduler.replicas_of(name), scheduler.traffic, now_s, "")
        for name, stored in sorted(apis.items())
    ]
    decided = scheduler.autoscaler.decisions
    decisions = [decided[name] for name in sorted(decided)]
    silent = sum(node.state == "silent" for node in scheduler.nodes.statuses(now_s))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(statuses, decisions, silent))
    return generate_latest(scheduler.registry) + generate_latest(registry)
