"""A real Prometheus: what it answers to queries of each kind, and while it hangs or is gone."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from aiohttp import web

from serai.clock import SystemClock
from serai.spec.scaling import Autoscaling, Metric
from serai.spec.types import ApiSpec, Pod
from serai_scheduler.autoscale.metric.answers import Answer
from serai_scheduler.autoscale.metric.prometheus import Prometheus
from serai_scheduler.autoscale.outside import Outside, OutsideSettings
from tests.support.prometheus import RunningPrometheus
from tests.support.stopping import stand_still
from tests.support.wait import auntil

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: mine
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
EXPOSED = """
jobs_waiting{queue="ocr"} 7000
jobs_waiting{queue="tags"} 900
"""


@asynccontextmanager
async def exposed(text: str) -> AsyncIterator[int]:
    """Serve these metrics; the port is where."""

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningPrometheus]:
    async with exposed(EXPOSED) as scraped:
        made = RunningPrometheus(tmp_path, CONFIG.format(port=scraped))
        try:
            async with Prometheus(SystemClock(), made.address) as prometheus:

                async def scrapes() -> bool:
                    return (await prometheus.ask("sum(jobs_waiting)")).value is not None

                await auntil(scrapes, 30.0, what="it has scraped")
            yield made
        finally:
            made.end()


async def test_a_real_prometheus_in_all_that_it_answers(running: RunningPrometheus) -> None:
    async with Prometheus(SystemClock(), running.address) as prometheus:
        values = {
            "sum(jobs_waiting)": 7900.0,
            'jobs_waiting{queue="ocr"}': 7000.0,
            "scalar(sum(jobs_waiting)) / 2": 3950.0,
            "sum(gone) or vector(0)": 0.0,
            "1e300 * 10": 1e300 * 10,
            "0.1 + 0.2": 0.1 + 0.2,
        }
        for promql, value in values.items():
            assert await prometheus.ask(promql) == Answer(value), promql
        faults = {
            "gone": "no sample for it",
            "jobs_waiting": "2 samples, where one number is asked for",
            "vector(NaN)": "its value is NaN",
            "1 / 0": "its value is +Inf",
            "-sum(jobs_waiting)": "its value is -7900",
        }
        for promql, fault in faults.items():
            told = await prometheus.ask(promql)
            assert told.value is None and not told.invalid and fault in told.fault, promql
        never = {
            "sum(": "unclosed left parenthesis",
            "nothing(up)": "unknown function",
            "jobs_waiting[1m]": "such as rate()",
            '"text"': "the query gives a string",
        }
        for promql, fault in never.items():
            told = await prometheus.ask(promql)
            assert told.invalid and fault in told.fault, promql


async def test_a_deploy_is_refused_with_the_words_of_a_real_prometheus(
    running: RunningPrometheus,
) -> None:
    outside = Outside(OutsideSettings(prometheus=running.address), SystemClock(), Random(1))

    def spec(promql: str) -> ApiSpec:
        scaling = Autoscaling(metric=Metric(promql=promql, target=3.0))
        return ApiSpec(name="iris", pod=Pod(command=("serve",)), autoscaling=scaling)

    assert await outside.problems([spec("sum(jobs_waiting)")], []) == ()
    assert await outside.problems([spec("nothing_of_that_name")], []) == (), "it may come yet"
    (told,) = await outside.problems([spec("sum(rate(jobs_waiting))")], [])
    assert "expected type range vector in call to function" in str(told)


async def test_a_real_prometheus_that_is_stopped_and_killed(running: RunningPrometheus) -> None:
    async with Prometheus(SystemClock(), running.address) as prometheus:
        await asyncio.to_thread(stand_still, running.process.pid)
        told = await prometheus.ask("sum(jobs_waiting)")
        assert told == Answer(None, "Prometheus gave no answer within 5 s")
        running.process.send_signal(signal.SIGCONT)

        async def answers() -> bool:
            return (await prometheus.ask("sum(jobs_waiting)")).value == 7900.0

        await auntil(answers, 20.0)
        running.end()
        assert "cannot connect" in (await prometheus.ask("up")).fault
