"""The operator API's calls, each a few lines over the scheduler."""

import asyncio
import contextlib
import math
from collections.abc import Callable

from aiohttp import web

from serai import wire
from serai.clock import Clock
from serai.decisions import DecisionList, Explanation
from serai.engine import LogQuery
from serai.errors import ConfigError
from serai.http import answer, read_body, read_raw
from serai.operator import (
    MAX_REQUEST_BYTES,
    ApiList,
    ApiStatus,
    DeployRequest,
    Done,
    NodeList,
    NodeRequest,
    NodeWish,
    RenderedJob,
    ScaleRequest,
)
from serai.report import MAX_REPORT_BYTES
from serai.spec.scaling import FIXED
from serai.tasks import cancelled
from serai_scheduler.api.metrics import render
from serai_scheduler.api.openapi import describe
from serai_scheduler.api.reading import deploy_request
from serai_scheduler.api.wake import tell, wake
from serai_scheduler.autoscale.explain import NOTHING_DECIDED, explained
from serai_scheduler.ledger import MOST_TOLD
from serai_scheduler.nomad.hcl import UnknownKey, hcl_of
from serai_scheduler.record import ApiRecord, StoredApi
from serai_scheduler.service import Scheduler
from serai_scheduler.views import damaged_status, description_of, status_of

OPENAPI = "/v1/openapi.json"
HEARTBEAT_S = 10.0
NODE_NEWS = {
    NodeWish.CORDON: "takes no new replicas; those that it has stay",
    NodeWish.DRAIN: "is being drained: its replicas are replaced elsewhere, then finish",
    NodeWish.OPEN: "takes replicas again",
}
MAX_GREP = 1000
DECISIONS_S = 86_400.0
CLOCK_SLACK_S = 5.0


async def healthz(request: web.Request) -> web.Response:
    """Answer that the process lives."""
    return answer(Done(message="alive"))


def own_routes(scheduler: Scheduler) -> list[web.RouteDef]:
    """Return what a scheduler that always leads tells of itself."""

    async def readyz(request: web.Request) -> web.Response:
        await scheduler.state.probe()  # 503 while the store does not answer
        return answer(Done(message="ready"))

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=await render(scheduler), content_type="text/plain")

    return [
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
        web.get("/metrics", metrics),
    ]


def _in_its_life(stored: StoredApi, since_s: float) -> float:
    """Return the moment or when the API was made: an earlier one of its name is another API."""
    return max(since_s, stored.record.created_at_s)


def _status(scheduler: Scheduler, stored: StoredApi) -> ApiStatus:
    decision = scheduler.autoscaler.decisions.get(stored.record.name)
    return status_of(
        stored,
        scheduler.replicas_of(stored.record.name),
        scheduler.traffic,
        scheduler.clock.now(),
        scheduler.cluster.gateway_url,
        scheduler.reconciler.blind,
        refused_reports=scheduler.refused_reports.told(scheduler.clock.now()),
        decision=decision,
    )


def _damaged(scheduler: Scheduler, api: str, why: str) -> ApiStatus:
    replicas, now_s = scheduler.replicas_of(api), scheduler.clock.now()
    return damaged_status(api, why, replicas, scheduler.traffic, now_s)


class Handlers:
    """All calls that the leader answers; `leading` returns it, or raises NoLeader."""

    def __init__(self, leading: Callable[[], Scheduler]) -> None:
        self._leading = leading

    @property
    def _scheduler(self) -> Scheduler:
        return self._leading()

    def add_to(self, app: web.Application) -> None:
        """Mount every call."""
        app.add_routes(
            [
                web.get(OPENAPI, self.openapi),
                web.get("/v1/info", self.info),
                web.get("/v1/apis", self.list_apis),
                web.get("/v1/apis/{api}", self.describe_api),
                web.delete("/v1/apis/{api}", self.delete_api),
                web.post("/v1/apis/{api}/scale", self.scale_api),
                web.post("/v1/apis/{api}/refresh", self.refresh_api),
                web.post("/v1/apis/{api}/wake", self.wake_api),
                web.get("/v1/apis/{api}/wake", self.waking),
                web.get("/v1/apis/{api}/decisions", self.decisions),
                web.get("/v1/apis/{api}/explanation", self.explain),
                web.get("/v1/apis/{api}/traffic", self.recorded),
                web.get("/v1/apis/{api}/logs", self.logs),
                web.get("/v1/apis/{api}/job", self.render),
                web.post("/v1/plan", self.plan),
                web.post("/v1/deploy", self.deploy),
                web.get("/v1/nodes", self.nodes),
                web.get("/v1/doctor", self.doctor),
                web.post("/v1/nodes/{node}", self.order_node),
                web.post("/v1/reports", self.report),
            ]
        )

    async def openapi(self, request: web.Request) -> web.Response:
        return web.json_response(describe())

    async def info(self, request: web.Request) -> web.Response:
        return answer(self._scheduler.info())

    # APIs ----------------------------------------------------------------------------------------

    async def list_apis(self, request: web.Request) -> web.Response:
        scheduler = self._scheduler
        apis = await scheduler.state.read()
        faults = scheduler.state.faults
        told = {name: _status(scheduler, stored) for name, stored in apis.items()}
        told |= {name: _damaged(scheduler, name, why) for name, why in faults.items()}
        return answer(ApiList(apis=tuple(told[name] for name in sorted(told))))

    async def describe_api(self, request: web.Request) -> web.Response:
        scheduler = self._scheduler
        name = request.match_info["api"]
        stored = await scheduler.find(name)
        now_s = scheduler.clock.now()
        return answer(
            description_of(
                stored,
                _status(scheduler, stored),
                scheduler.replicas_of(name),
                scheduler.traffic,
                scheduler.nodes.usage(now_s),
                scheduler.traffic.view(now_s).in_flight,
                now_s,
                scheduler.clock.wall(),
                scheduler.autoscaler.progress(name),
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
        record = await self._scheduler.orders.scale(name, order.replicas)
        return answer(Done(message=scaled_message(record)))

    async def decisions(self, request: web.Request) -> web.Response:
        name, scheduler = request.match_info["api"], self._scheduler
        stored = await scheduler.find(name)
        now_s = scheduler.clock.wall()
        since_s = _in_its_life(stored, number_of(request, "since", now_s - DECISIONS_S))
        until_s = number_of(request, "until", now_s + CLOCK_SLACK_S)
        most = int(number_of(request, "most", MOST_TOLD))
        found = await scheduler.ledger.since(name, since_s, until_s, max(1, most))
        return answer(DecisionList(decisions=found))

    async def recorded(self, request: web.Request) -> web.Response:
        name, scheduler = request.match_info["api"], self._scheduler
        stored = await scheduler.find(name)
        now_s = scheduler.clock.wall()
        since_s = _in_its_life(stored, number_of(request, "since", now_s - DECISIONS_S))
        until_s = number_of(request, "until", now_s)
        return answer(await scheduler.ledger.recorded(name, since_s, until_s))

    async def explain(self, request: web.Request) -> web.Response:
        name, scheduler = request.match_info["api"], self._scheduler
        stored = await scheduler.find(name)
        if "at" in request.query:
            at_s = number_of(request, "at", 0.0)
            one = await scheduler.ledger.at(name, at_s, _in_its_life(stored, 0.0))
            why = f"no decision about {name} is kept of that time"
        else:
            one, why = scheduler.autoscaler.decisions.get(name), NOTHING_DECIDED.format(api=name)
        return answer(Explanation(sentences=explained(one) if one else (why,), decision=one))

    async def refresh_api(self, request: web.Request) -> web.Response:
        name = request.match_info["api"]
        await self._scheduler.find(name)
        version = await self._scheduler.orders.refresh(name)
        return answer(Done(message=f"{name}: new replicas start as {version}"))

    async def wake_api(self, request: web.Request) -> web.Response:
        return answer(await wake(self._scheduler, request.match_info["api"]))

    async def waking(self, request: web.Request) -> web.StreamResponse:
        return await tell(self._scheduler, request)

    async def render(self, request: web.Request) -> web.Response:
        job = await self._scheduler.render(
            request.match_info["api"], request.query.get("version", "")
        )
        try:
            return answer(RenderedJob(json=job, hcl=hcl_of(job)))
        except UnknownKey as unknown:
            why = f"the job that runs has {unknown}, which Serai does not write as HCL"
            return answer(RenderedJob(json=job, hcl="", why_no_hcl=why))

    # Deploying -----------------------------------------------------------------------------------

    async def plan(self, request: web.Request) -> web.Response:
        return answer(await self._scheduler.plan(await _deploy_of(request)))

    async def deploy(self, request: web.Request) -> web.Response:
        return answer(await self._scheduler.deploy(await _deploy_of(request)))

    # Nodes ---------------------------------------------------------------------------------------

    async def nodes(self, request: web.Request) -> web.Response:
        return answer(NodeList(nodes=await self._scheduler.node_statuses()))

    async def doctor(self, request: web.Request) -> web.Response:
        return answer(await self._scheduler.examination())

    async def order_node(self, request: web.Request) -> web.Response:
        node = request.match_info["node"]
        order = await read_body(request, NodeRequest, MAX_REQUEST_BYTES)
        await self._scheduler.order_node(node, order)
        return answer(Done(message=f"{node} {NODE_NEWS[order.wish]}"))

    async def report(self, request: web.Request) -> web.Response:
        raw = await read_raw(request, MAX_REPORT_BYTES)
        return answer(self._scheduler.take_report(raw))

    # Logs ----------------------------------------------------------------------------------------

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Stream lines as JSON, one per line; an empty object now and then shows that we live."""
        name, scheduler = request.match_info["api"], self._scheduler
        await scheduler.find(name)
        query = _log_query(name, request)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        tasks = [asyncio.ensure_future(_write_lines(response, scheduler, query))]
        if query.follow:
            tasks.append(asyncio.ensure_future(_beat(response, scheduler.clock)))
            tasks.append(asyncio.ensure_future(_end(scheduler)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(*tasks)
        with contextlib.suppress(ConnectionError):  # the reader has gone
            for task in done:
                task.result()
        return response


async def _write_lines(response: web.StreamResponse, scheduler: Scheduler, query: LogQuery) -> None:
    async for line in scheduler.engine.logs(query):
        await response.write(wire.encode(line) + b"\n")


async def _beat(response: web.StreamResponse, clock: Clock) -> None:
    while True:
        await clock.sleep(HEARTBEAT_S)
        await response.write(b"{}\n")


async def _end(scheduler: Scheduler) -> None:
    await scheduler.ended.wait()


def scaled_message(record: ApiRecord) -> str:
    """Return what is told once a count is set, or left to the policy again."""
    name, policy = record.name, record.spec.autoscaling.policy
    if record.pinned is None:
        return f"{name}: its policy ({policy}) decides again"
    again = "" if policy == FIXED else f"; `serai scale {name} --auto` lets its policy decide again"
    return f"{name} is scaled to {record.pinned}{again}"


def number_of(request: web.Request, name: str, default: float) -> float:
    """Return a number of the query; ConfigError for what is none."""
    text = request.query.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{name} must be a number, not {text!r}")
    return value


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
        follow=follows(request),
    )


def follows(request: web.Request) -> bool:
    """Say whether a call for logs is to go on until its reader leaves."""
    return request.query.get("follow", "") not in ("", "0", "false")


async def _deploy_of(request: web.Request) -> DeployRequest:
    return await asyncio.to_thread(deploy_request, await read_raw(request, MAX_REQUEST_BYTES))
