"""A Prometheus in a process of its own that never answers the queries whose name begins so."""

import asyncio
import sys

from aiohttp import web

from serai.clock import SystemClock
from tests.support.metric_server import MetricServer, metric_server

HANGS = "hang"


class Hanging(MetricServer):
    """Every query has a value but those that hang."""

    async def answer(self, request: web.Request) -> web.Response:
        query = request.query["query"]
        self.values[query] = "7900"
        if query.startswith(HANGS):
            self.hanging.add(query)
        return await super().answer(request)


async def main() -> None:
    async with metric_server(made=Hanging()) as server:
        print(server.address, flush=True)
        await SystemClock().sleep(3600.0)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
