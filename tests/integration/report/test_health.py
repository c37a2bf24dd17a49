"""The agent's listener: its status codes are its answers."""

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from serai.errors import ConfigError
from serai.metrics import Metrics
from serai_agent.report.health import Access, listening


async def test_health_readiness_and_metrics() -> None:
    registry = CollectorRegistry()
    Metrics("agent", registry).gauge("cpu_used", "percent", "x").set(3)
    problems: list[str] = ["the gateway is not steered yet"]
    async with (
        listening("127.0.0.1", 0, registry, lambda: tuple(problems)) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        async with session.get("/healthz") as response:
            assert (response.status, await response.json()) == (200, {"ok": True, "problems": []})
        async with session.get("/readyz") as response:
            told = {"ok": False, "problems": problems}
            assert (response.status, await response.json()) == (503, told)
        problems.clear()
        async with session.get("/readyz") as response:
            assert response.status == 200
        async with session.get("/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            assert "serai_agent_cpu_used_percent 3.0" in await response.text()


async def test_an_address_in_use_is_one_clear_error() -> None:
    registry = CollectorRegistry()
    async with listening("127.0.0.1", 0, registry, tuple) as port:
        with pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .*in use"):
            async with listening("127.0.0.1", port, registry, tuple):
                raise AssertionError("two listeners on one port")


async def test_beyond_health_it_asks_for_the_token() -> None:
    registry = CollectorRegistry()
    async with (
        listening("127.0.0.1", 0, registry, tuple, Access(token="secret")) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        for path, token, status in (
            ("/healthz", "", 200),
            ("/readyz", "", 200),
            ("/metrics", "", 401),
            ("/metrics", "Bearer secret2", 401),
            ("/metrics", "Bearer secret", 200),
        ):
            async with session.get(path, headers={"Authorization": token}) as response:
                assert response.status == status, path
