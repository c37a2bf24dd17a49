"""A server that speaks what is documented of Prometheus' HTTP API for instant queries.

What a real one answers is in tests/integration/autoscale/test_prometheus.py; this one hangs, counts
and lies at a test's word.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from serai.clock import SystemClock

PATH = "/api/v1/query"


class MetricServer:
    """Answers each query with its value of `values`; those in `hanging` are never answered."""

    def __init__(self) -> None:
        self.address = ""
        self.values: dict[str, str] = {}
        self.hanging: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        """How many of each query are being answered at this moment."""
        self.most_open = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one instant query."""
        query = request.query["query"]
        self.asked[query] += 1
        self.open[query] += 1
        self.most_open = max(self.most_open, self.open.total())
        try:
            if query in self.hanging:
                await asyncio.Event().wait()
        finally:
            self.open[query] -= 1
        if query not in self.values:
            return self._refused(query)
        sample = [SystemClock().wall(), self.values[query]]
        data: Any = {"resultType": "vector", "result": [{"metric": {}, "value": sample}]}
        return web.json_response({"status": "success", "data": data})

    def _refused(self, query: str) -> web.Response:
        body = {"status": "error", "errorType": "bad_data", "error": f"parse error: {query}"}
        return web.json_response(body, status=400)


@asynccontextmanager
async def metric_server(
    path: str = PATH, made: MetricServer | None = None
) -> AsyncIterator[MetricServer]:
    """Run one for as long as the block lasts; questions that are open then are given up."""
    made = made or MetricServer()
    app = web.Application()
    app.router.add_get(path, made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    made.address = f"http://127.0.0.1:{port}{path.removesuffix(PATH)}"
    try:
        yield made
    finally:
        await runner.cleanup()
