"""The operator API's calls, each a few lines over the scheduler."""

import asyncio
import contextlib

from aiohttp import web

from serai import wire
from serai.engine import LogQuery
from serai.errors import ConfigError
from serai.http import answer, read_body, read_raw
from serai.operator import (
    MAX_REQUEST_BYTES,
    ApiList,
    DeployRequest,
    Done,
    NodeList,
    ScaleRequest,
)
from serai.report import MAX_REPORT_BYTES
from serai_scheduler.api.metrics import render
from serai_scheduler.api.openapi import describe
from serai_scheduler.api.reading import deploy_request
from serai_scheduler.service import Scheduler
from serai_scheduler.views import description_of, status_of

HEARTBEAT_S = 10.0
MAX_GREP = 1000


class Handlers:
    """All calls of one scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def add_to(self, app: web.Application) -> None:
        """Mount every call."""
        app.add_routes(
            [
                web.get("/healthz", self.healthz),
                web.get("/readyz", self.readyz),
                web.get("/metrics", self.metrics),
                web.get("/v1/openapi.json", self.openapi),
                web.get("/v1/info", self.info),
                web.get("/v1/apis", self.list_apis),
                web.get("/v1/apis/{api}", self.describe_api),
                web.delete("/v1/apis/{api}", self.delete_api),
                web.post("/v1/apis/{api}/scale", self.scale_api),
                web.post("/v1/apis/{api}/refresh", self.refresh_api),
                web.get("/v1/apis/{api}/logs", self.logs),
                web.post("/v1/plan", self.plan),
                web.post("/v1/deploy", self.deploy),
                web.get("/v1/nodes", self.nodes),
                web.post("/v1/reports", self.report),
            ]
        )

    async def healthz(self, request: web.Request) -> web.Response:
        return answer(Done(message="alive"))

    async def readyz(self, request: web.Request) -> web.Response:
        await self._scheduler.state.read()  # 503 while the store does not answer
        return answer(Done(message="ready"))

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=await render(self._scheduler), content_type="text/plain")

    async def openapi(self, request: web.Request) -> web.Response:
        return web.json_response(describe())

    async def info(self, request: web.Request) -> web.Response:
        return answer(self._scheduler.info())

    # APIs ----------------------------------------------------------------------------------------

    async def list_apis(self, request: web.Request) -> web.Response:
        scheduler = self._scheduler
        apis = await scheduler.state.read()
        return answer(
            ApiList(
                apis=tuple(
                    status_of(
                        stored,
                        scheduler.replicas_of(name),
                        scheduler.traffic,
                        scheduler.clock.now(),
                        scheduler.cluster.gateway_url,
                    )
                    for name, stored in sorted(apis.items())
                )
            )
        )

    async def describe_api(self, request: web.Request) -> web.Response:
        scheduler = self._scheduler
        name = request.match_info["api"]
        stored = await scheduler.find(name)
        now_s = scheduler.clock.now()
        return answer(
            description_of(
                stored,
                scheduler.replicas_of(name),
                scheduler.traffic,
                scheduler.nodes.usage(now_s),
                scheduler.traffic.view(now_s).in_flight,
                now_s,
                scheduler.cluster.gateway_url,
            )
        )

    async def delete_api(self, request: web.Request) -> web.Response:
        name = request.match_info["api"]
        await self._scheduler.find(name)
        await self._scheduler.orders.delete(name)
        return answer(Done(message=f"{name} is being deleted; requests in flight finish"))

    async def scale_api(self, request: web.Request) -> web.Response:
        name = request.match_info["api"]
        order = await read_body(request, ScaleRequest, MAX_REQUEST_BYTES)
        await self._scheduler.find(name)
        await self._scheduler.orders.scale(name, order.replicas)
        return answer(Done(message=f"{name} is scaled to {order.replicas}"))

    async def refresh_api(self, request: web.Request) -> web.Response:
        name = request.match_info["api"]
        await self._scheduler.find(name)
        version = await self._scheduler.orders.refresh(name)
        return answer(Done(message=f"{name}: new replicas start as {version}"))

    # Deploying -----------------------------------------------------------------------------------

    async def plan(self, request: web.Request) -> web.Response:
        return answer(await self._scheduler.plan(await _deploy_of(request)))

    async def deploy(self, request: web.Request) -> web.Response:
        return answer(await self._scheduler.deploy(await _deploy_of(request)))

    # Nodes ---------------------------------------------------------------------------------------

    async def nodes(self, request: web.Request) -> web.Response:
        now_s = self._scheduler.clock.now()
        return answer(NodeList(nodes=self._scheduler.nodes.statuses(now_s)))

    async def report(self, request: web.Request) -> web.Response:
        self._scheduler.take_report(await read_raw(request, MAX_REPORT_BYTES))
        return answer(Done(message="taken"))

    # Logs ----------------------------------------------------------------------------------------

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Stream lines as JSON, one per line; an empty object now and then shows that we live."""
        name = request.match_info["api"]
        await self._scheduler.find(name)
        query = _log_query(name, request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._heartbeat(response)) if query.follow else None
            try:
                async for line in self._scheduler.engine.logs(query):
                    await response.write(wire.encode(line) + b"\n")
            except ConnectionError:
                pass  # the reader has gone
            finally:
                if beating is not None:
                    beating.cancel()
        return response

    async def _heartbeat(self, response: web.StreamResponse) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await self._scheduler.clock.sleep(HEARTBEAT_S)
                await response.write(b"{}\n")


def _log_query(api: str, request: web.Request) -> LogQuery:
    query = request.query
    try:
        since = float(query["since"]) if "since" in query else None
        tail = int(query["tail"]) if "tail" in query else None
    except ValueError as error:
        raise ConfigError(f"since and tail must be numbers: {error}") from error
    if len(query.get("grep", "")) > MAX_GREP:
        raise ConfigError(f"grep takes up to {MAX_GREP} characters")
    return LogQuery(
        api=api,
        replicas=tuple(query.getall("replica", [])),
        version=query.get("version", ""),
        since_s=since,
        tail=tail,
        grep=query.get("grep", ""),
        follow=query.get("follow", "") not in ("", "0", "false"),
    )


async def _deploy_of(request: web.Request) -> DeployRequest:
    return await asyncio.to_thread(deploy_request, await read_raw(request, MAX_REQUEST_BYTES))
