"""Passes HAProxy's own metrics on: its exporter listens on a socket that only we can open."""

from pathlib import Path

import aiohttp
from aiohttp import web

from serai.errors import Unavailable
from serai.http import problem, translated
from serai_agent.edge.config import METRICS_SOCKET
from serai_agent.edge.socket import reachable

METRICS_LIMIT_S = 5.0


class GatewayMetrics:
    """Answers `/metrics/gateway` for the HAProxy of a state folder."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / METRICS_SOCKET

    async def answer(self, request: web.Request) -> web.Response:
        try:
            return web.Response(body=await self._read(), content_type="text/plain")
        except Unavailable as error:
            return problem(503, "unavailable", str(error))

    async def _read(self) -> bytes:
        timeout = aiohttp.ClientTimeout(METRICS_LIMIT_S)
        with reachable(self._socket) as path:
            async with (
                translated("HAProxy's metrics"),
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(path), timeout=timeout
                ) as session,
                session.get("http://haproxy/metrics") as response,
            ):
                return await response.read()
