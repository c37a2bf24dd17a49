"""Metrics over real sockets: what is asked when, and what of it is an answer."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from serai.clock import SystemClock
from serai.spec.scaling import Autoscaling, Metric
from serai.spec.types import ApiSpec, Pod
from serai_scheduler.autoscale.metric.need import Reading
from serai_scheduler.autoscale.metric.prometheus import (
    AT_ONCE,
    NOWHERE,
    Metrics,
    Prometheus,
)
from serai_scheduler.autoscale.outside import Outside, OutsideSettings
from tests.support.certificates import Authority
from tests.support.metric_server import MetricServer, metric_server
from tests.support.ports import free_port
from tests.support.wait import auntil
from tests.support.wrong_server import wrong_server


@asynccontextmanager
async def asking(address: str, clock: SystemClock | None = None) -> AsyncIterator[Metrics]:
    metrics = Metrics(clock or SystemClock(), address)
    task = asyncio.ensure_future(metrics.run())
    try:
        yield metrics
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def answer(address: str, promql: str = "up") -> str:
    """Return why one query gives no number, "" if it gives one."""
    async with Prometheus(SystemClock(), address) as prometheus:
        found = await prometheus.ask(promql)
    assert (found.value is None) == bool(found.fault)
    return found.fault


def follow(metrics: Metrics, *queries: str) -> None:
    """Follow one API for each query, each asked at once, as those that come one by one are."""
    wanted: dict[str, str] = {}
    for query in queries:
        wanted[query] = query
        metrics.follow(wanted)


async def test_values_come_in_and_one_query_is_as_good_as_another() -> None:
    async with metric_server() as server, asking(server.address) as metrics:
        odd = 'sum(rate(a{b=~"c|d&e"}[5m])) + 1 # ü\n'
        server.values = {"up": "3", odd: "2.5"}
        follow(metrics, "up", odd, "sum(")
        await auntil(lambda: metrics.reading("sum(").fault.startswith("Prometheus answered"))
        await auntil(lambda: metrics.reading(odd) == Reading(2.5))
        assert metrics.reading("up") == Reading(3.0)
        assert "HTTP 400: parse error: sum(" in metrics.reading("sum(").fault


async def test_a_path_before_the_api_is_kept() -> None:
    async with metric_server("/team/prometheus/api/v1/query") as server:
        server.values = {"up": "1"}
        assert await answer(server.address) == ""
        assert await answer(f"{server.address}/") == ""


async def test_one_that_hangs_keeps_nobody_from_an_answer() -> None:
    """While its question is open all others are answered, and the loop turns."""
    async with metric_server() as server, asking(server.address) as metrics:
        names = [f"api{number}" for number in range(40)]
        server.values = dict.fromkeys(names, "1")
        server.hanging = {"hang"}
        follow(metrics, "hang", *names)
        await auntil(lambda: all(metrics.reading(one).value == 1.0 for one in names))
        assert server.open["hang"] == 1, "it hangs all the while"
        assert metrics.reading("hang").value is None
        await auntil(lambda: "no answer within 5 s" in metrics.reading("hang").fault, 10.0)
        await auntil(lambda: not server.open["hang"])


async def test_only_so_many_are_asked_at_once_and_all_come_to_their_turn() -> None:
    async with metric_server() as server, asking(server.address) as metrics:
        hanging = [f"hang{number}" for number in range(AT_ONCE)]
        server.hanging, server.values = set(hanging), {"up": "1"}
        follow(metrics, *hanging, "up")
        await auntil(lambda: server.open.total() == AT_ONCE)
        await SystemClock().sleep(0.5)
        assert not server.asked["up"] and server.most_open == AT_ONCE
        await auntil(lambda: metrics.reading("up").value == 1.0, 10.0)
        assert server.most_open == AT_ONCE


async def test_a_server_that_goes_away() -> None:
    async with metric_server() as server:
        server.values = {"up": "1", "other": "2"}
        async with Prometheus(SystemClock(), server.address) as prometheus:
            assert (await prometheus.ask("up")).value == 1.0
            away = server.address
        async with Prometheus(SystemClock(), away) as prometheus:
            assert (await prometheus.ask("other")).value == 2.0
    assert "Prometheus is not reached: cannot connect to 127.0.0.1" in await answer(away)


async def test_nobody_listens() -> None:
    told = await answer(f"http://127.0.0.1:{free_port()}")
    assert told.startswith("Prometheus is not reached: cannot connect to 127.0.0.1")
    told = await answer("http://nothing.invalid:9090")
    assert "cannot connect to nothing.invalid:9090" in told or "no answer within" in told


@pytest.mark.parametrize(
    ("body", "header", "status", "words"),
    [
        (b"<html>a page</html>", "Content-Type: text/html", 200, "no answer of a Prometheus"),
        (b"no", "Content-Type: text/plain", 404, "no answer of a Prometheus (HTTP 404)"),
        (b"x" * 200_000, "Content-Type: application/json", 200, "more than 64 KiB"),
        (b"\x1f\x8b" + b"\0" * 99, "Content-Encoding: gzip", 200, "no answer of a Prometheus"),
        (b"", "X: y", 503, "no answer of a Prometheus (HTTP 503)"),
        (b"", "X-Long: " + "y" * 100_000, 200, "Prometheus is not reached"),
    ],
)
async def test_what_something_else_answers_is_none(
    body: bytes, header: str, status: int, words: str
) -> None:
    async with wrong_server(body, header, status) as server:
        assert words in await answer(f"http://127.0.0.1:{server.port}")


async def test_a_redirect_is_not_followed() -> None:
    async with metric_server() as other:
        other.values = {"up": "1"}
        where = f"Location: {other.address}/api/v1/query?query=up"
        async with wrong_server(b"", where, 302) as server:
            told = await answer(f"http://127.0.0.1:{server.port}")
        assert "HTTP 302, which sends on to another one" in told and not other.asked
        assert server.heads[0].startswith("GET /api/v1/query?query=up HTTP/1.1")


async def test_an_answer_that_comes_by_drops_is_late() -> None:
    ended = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await SystemClock().sleep(0.1)
        ended.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await answer(f"http://127.0.0.1:{port}") == "Prometheus gave no answer within 5 s"
    await ended.wait()
    server.close()


async def test_its_certificate_is_checked_by_those_of_the_system(tmp_path: Path) -> None:
    made = Authority(tmp_path / "own").issue("prometheus", "IP:127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.certificate, made.key)

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(nothing, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    told = await answer(f"https://127.0.0.1:{port}")
    assert "its certificate cannot be verified" in told
    server.close()
    async with metric_server() as plain:
        told = await answer(plain.address.replace("http:", "https:"))
    assert "does not speak TLS at this port; see `autoscaling.prometheus`" in told


class Stepped(SystemClock):
    """A machine whose wall clock somebody sets."""

    step_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.step_s


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
async def test_a_clock_that_is_set_makes_no_answer_old(step_s: float) -> None:
    clock = Stepped()
    async with metric_server() as server, asking(server.address, clock) as metrics:
        server.values = {"up": "1", "later": "2"}
        follow(metrics, "up")
        await auntil(lambda: metrics.reading("up").value == 1.0)
        clock.step_s = step_s
        assert metrics.reading("up").value == 1.0, "its age is what has passed"
        metrics.follow({"up": "up", "later": "later"})
        if step_s < 0:
            await auntil(lambda: metrics.reading("later").value == 2.0)
            return
        await auntil(lambda: "3600 s old" in metrics.reading("later").fault)
        assert "the clocks of the two machines differ" in metrics.reading("later").fault
        clock.step_s = 0.0
        metrics.follow({"up": "up"})
        metrics.follow({"up": "up", "later": "later"})
        await auntil(lambda: metrics.reading("later").value == 2.0)


def spec(promql: str, name: str = "iris") -> ApiSpec:
    scaling = Autoscaling(metric=Metric(promql=promql, target=3.0))
    return ApiSpec(name=name, pod=Pod(command=("serve",)), autoscaling=scaling)


async def problems(server: MetricServer | None, *specs: ApiSpec) -> list[str]:
    address = server.address if server is not None else f"http://127.0.0.1:{free_port()}"
    outside = Outside(OutsideSettings(prometheus=address), SystemClock(), Random(1))
    return [str(one) for one in await outside.problems(specs, [])]


async def test_a_deploy_is_refused_without_a_prometheus() -> None:
    nowhere = Outside(OutsideSettings(), SystemClock(), Random(1))
    (told,) = await nowhere.problems([spec("up")], [])
    assert "iris: autoscaling.metric: this scheduler has no Prometheus" in str(told)
    assert "`prometheus` in `[autoscaling]`" in str(told) and "serai up --prometheus" in str(told)
    async with asking("") as metrics:  # one that was deployed before the setting went
        follow(metrics, "up")
        await auntil(lambda: metrics.reading("up").fault == NOWHERE)


async def test_a_deploy_is_refused_for_what_prometheus_calls_no_promql() -> None:
    async with metric_server() as server:
        server.values = {"up": "1"}
        told = await problems(server, spec("sum("), spec("up", "ocr"), spec("sum(", "other"))
        assert len(told) == 2 and server.asked["sum("] == 1
        assert told[0].startswith("iris: autoscaling.metric.promql: asked of http://127.0.0.1:")
        assert 'HTTP 400: parse error: sum(; found "sum("' in told[0] and "other: " in told[1]


async def test_a_deploy_is_not_refused_for_a_prometheus_that_is_away_or_hangs() -> None:
    assert await problems(None, spec("sum(")) == []
    async with metric_server() as server:
        server.hanging = {f"hang{number}" for number in range(3 * AT_ONCE)}
        server.hanging.add("sum(")
        specs = [spec(one, f"api{number}") for number, one in enumerate(sorted(server.hanging))]
        async with asyncio.timeout(8.0):  # once the time for all of them together is over
            assert await problems(server, *specs) == []
    async with wrong_server(b"no", "Content-Type: text/plain", 400) as wrong:
        outside = Outside(
            OutsideSettings(prometheus=f"http://127.0.0.1:{wrong.port}"), SystemClock(), Random(1)
        )
        assert await outside.problems([spec("up")], []) == (), "that is no word of a Prometheus"
