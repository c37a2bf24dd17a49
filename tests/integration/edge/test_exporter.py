"""HAProxy's own metrics, passed on."""

from pathlib import Path

import aiohttp
from aiohttp import web

from serai_agent.edge.exporter import GatewayMetrics
from tests.support.gateways import edge


async def test_they_are_passed_on_from_any_folder_or_said_to_be_away(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    """The path of a socket may be too long for the kernel."""
    app = web.Application()
    async with edge(tmp_path / ("deep" * 30), "2.8") as one:
        app.router.add_get("/there", GatewayMetrics(one.folder).answer)
        app.router.add_get("/away", GatewayMetrics(tmp_path).answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with client.get(f"{url}/there") as response:
            assert response.status == 200
            assert "haproxy_process_" in await response.text()
        async with client.get(f"{url}/away") as response:
            assert response.status == 503
            assert "HAProxy's metrics" in await response.text()
        await runner.cleanup()
