"""Names by rule, registries of one's own, loops that tell their lateness."""

import pytest
from prometheus_client import CollectorRegistry

from serai.metrics import LoopMetrics, Metrics, render


def test_names_follow_the_rule() -> None:
    registry = CollectorRegistry()
    metrics = Metrics("agent", registry)
    metrics.counter("reports", "sent", "Reports sent.", ("sink",)).labels("http").inc(2)
    metrics.gauge("gpu_memory", "bytes", "Memory.").set(5)
    metrics.histogram("report", "seconds", "Time.", buckets=(0.1, 1.0)).observe(0.5)
    text = render(registry).decode()
    assert 'serai_agent_reports_sent_total{sink="http"} 2.0' in text
    assert "serai_agent_gpu_memory_bytes 5.0" in text
    assert 'serai_agent_report_seconds_bucket{le="1.0"} 1.0' in text


@pytest.mark.parametrize("noun", ["Reports", "a-b", "", "a__b", "1a"])
def test_a_name_that_breaks_the_rule_is_refused(noun: str) -> None:
    with pytest.raises(ValueError, match="part of a metric's name"):
        Metrics("agent", CollectorRegistry()).gauge(noun, "bytes", "x")


def test_loops_are_told_apart_by_a_label() -> None:
    registry = CollectorRegistry()
    loops = LoopMetrics(Metrics("scheduler", registry))
    loops.late("reconcile", 0.02, 3)
    loops.restarted("reconcile")
    text = render(registry).decode()
    assert 'serai_scheduler_loop_lateness_seconds_bucket{le="0.03",loop="reconcile"} 1.0' in text
    assert 'serai_scheduler_loop_missed_ticks_total{loop="reconcile"} 3.0' in text
    assert 'serai_scheduler_loop_restarts_total{loop="reconcile"} 1.0' in text


def test_registries_do_not_share() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    Metrics("agent", first).gauge("disk_free", "bytes", "x")
    Metrics("agent", second).gauge("disk_free", "bytes", "x")
    assert b"disk_free" in render(first)
    assert b"disk_free" in render(second)
