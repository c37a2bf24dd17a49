"""The report goes on when a part of it fails, hangs or comes back."""

import asyncio
import logging
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from serai.clock import SimClock
from serai.errors import Unavailable
from serai.metrics import Metrics, render
from serai.report import GatewayReading, Gpus, NodeReport, ReplicaUsage
from serai_agent.report.beat import NodeReading
from serai_agent.report.gauges import ReportGauges
from serai_agent.report.sender import ReportLoop, Sources
from tests.support.wait import auntil
from tests.unit.report.parts import GATEWAY, GPU, NODE, WHO, usage


class Kept:
    """A sink that keeps the reports."""

    def __init__(self) -> None:
        self.reports: list[NodeReport] = []
        self.demand_since = 0

    async def send(self, report: NodeReport) -> None:
        self.reports.append(report)


class Gateway:
    """A gateway reading that does what it is told: answer, fail or hang."""

    def __init__(self) -> None:
        self.mood = "well"

    async def read(self) -> GatewayReading:
        if self.mood == "failing":
            raise Unavailable("the socket is gone")
        if self.mood == "hanging":
            await asyncio.Event().wait()
        return GATEWAY


async def node() -> NodeReading:
    return NODE


async def replicas() -> Sequence[ReplicaUsage]:
    return [usage("iris-1")]


def gpus() -> Gpus:
    return Gpus(readings=(GPU,), age_s=0.1)


def looping(gateway: Gateway, gauges: ReportGauges | None = None) -> tuple[ReportLoop, Kept]:
    sink = Kept()
    sources = Sources(node, gpus, replicas, gateway.read)
    return ReportLoop(WHO, sources, sink, SimClock(), gauges, part_deadline_s=0.02), sink


async def test_reports_are_numbered_and_whole() -> None:
    loop, sink = looping(Gateway())
    for _ in range(3):
        await loop.step()
    assert [report.sequence for report in sink.reports] == [1, 2, 3]
    report = sink.reports[-1]
    assert (report.gateway, report.replicas) == (GATEWAY, (usage("iris-1"),))
    assert report.started_at_s == WHO.started_at_s
    assert report.sent_at_s == SimClock().wall()


@pytest.mark.parametrize(
    ("mood", "why"), [("failing", "the socket is gone"), ("hanging", "TimeoutError")]
)
async def test_a_part_that_fails_is_left_out_and_told_once(
    mood: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway()
    loop, sink = looping(gateway)
    with caplog.at_level(logging.INFO):
        gateway.mood = mood
        await loop.step()
        await loop.step()
        gateway.mood = "well"
        await loop.step()
        await loop.step()
    assert [report.gateway for report in sink.reports] == [None, None, GATEWAY, GATEWAY]
    assert all(report.replicas == (usage("iris-1"),) for report in sink.reports)
    assert [record.message for record in caplog.records] == [
        "part of the report is missing",
        "part of the report is back",
    ]
    assert vars(caplog.records[0])["why"] == why


async def test_a_bug_in_a_part_is_not_hidden() -> None:
    async def broken() -> NodeReading:
        raise KeyError("a bug")

    loop = ReportLoop(WHO, Sources(broken, gpus), Kept(), SimClock())
    with pytest.raises(ExceptionGroup) as raised:
        await loop.step()
    assert raised.group_contains(KeyError)


async def test_a_node_without_gateway_or_engine_reports_too() -> None:
    sink = Kept()
    await ReportLoop(WHO, Sources(node, gpus), sink, SimClock()).step()
    assert (sink.reports[0].gateway, sink.reports[0].replicas) == (None, ())


async def test_the_readings_are_shown_as_metrics_and_gone_gpus_vanish() -> None:
    registry = CollectorRegistry()
    gateway = Gateway()
    gateway.mood = "failing"
    gauges = ReportGauges(Metrics("agent", registry))
    loop, _ = looping(gateway, gauges)
    await loop.step()
    text = render(registry).decode()
    assert "serai_agent_cpu_used_percent 12.5" in text
    assert 'serai_agent_gpu_memory_total_bytes{gpu="0",uuid="GPU-1"} 1.610612736e+10' in text
    assert 'serai_agent_gpu_power_watts{gpu="0",uuid="GPU-1"} NaN' in text
    assert 'serai_agent_report_parts_missing_total{part="gateway"} 1.0' in text
    without = Sources(node, lambda: Gpus(problem="no NVIDIA driver"))
    await ReportLoop(WHO, without, Kept(), SimClock(), gauges).step()
    text = render(registry).decode()
    assert "GPU-1" not in text
    assert "serai_agent_gpu_age_seconds NaN" in text


async def test_news_is_told_at_once() -> None:
    loop, sink = looping(Gateway())
    news = asyncio.Event()
    telling = asyncio.create_task(loop.tell(news))
    news.set()
    await auntil(lambda: bool(sink.reports), 5)
    assert not news.is_set()
    telling.cancel()
