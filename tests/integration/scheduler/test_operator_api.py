"""The operator API over HTTP: who may call, what is refused and how, what its description says."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from openapi_spec_validator import validate
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from serai import wire
from serai.blobs import MemoryBlobs
from serai.bundle import BundleFile, Manifest, encode_manifest
from serai.clock import SimClock
from serai.decisions import ScaleDecision
from serai.model import digest_of
from serai.operator import DeployItem, DeployRequest
from serai.report import REPORT_VERSION, GatewayReading, VersionTraffic
from serai.spec import Problem
from serai.spec.types import ApiSpec, Compute, Nodes, Pod, Predictor
from serai.units import Size
from serai_cli.embedded.limits import without_effect
from serai_scheduler.api.app import make_app
from serai_scheduler.service import Scheduler
from serai_scheduler.store.sqlite import SqliteStore
from tests.sim.cluster import SimEngine
from tests.support.ports import free_port
from tests.support.scheduling import CLUSTER, report, request, spec
from tests.unit.autoscale.test_explain import DECIDED

TOKEN = "the-token"


class Api:
    """A running operator API and a client of it."""

    def __init__(self, url: str, session: aiohttp.ClientSession, scheduler: Scheduler) -> None:
        self.url, self.session, self.scheduler = url, session, scheduler

    async def call(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {TOKEN}", **headers}
        data = body if isinstance(body, bytes | None) else wire.encode(body)
        async with self.session.request(
            method, self.url + path, data=data, headers=sent
        ) as response:
            raw = await response.read()
            if response.status >= 400:
                assert response.content_type == "application/problem+json", raw
            return response.status, json.loads(raw) if raw else None


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    clock = SimClock()
    store = SqliteStore(tmp_path / "store.db")
    await store.open()

    async def all_fine(specs: object) -> tuple[Problem, ...]:
        return ()

    scheduler = Scheduler(
        clock=clock,
        store=store,
        engine=SimEngine(Random(1), clock),
        blobs=MemoryBlobs(clock.wall),
        parts=MemoryBlobs(clock.wall),
        cluster=CLUSTER,
        epoch=await store.raise_epoch(),
        check_specs=all_fine,
        registry=CollectorRegistry(),
        remarks=without_effect,
    )
    runner = web.AppRunner(make_app(scheduler, TOKEN, frozenset({"127.0.0.1"})))
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with aiohttp.ClientSession() as session:
        yield Api(f"http://127.0.0.1:{port}", session, scheduler)
    await runner.cleanup()
    await store.close()


def plain(name: str = "iris") -> DeployRequest:
    return request(spec(name), bundle="")


async def test_nothing_is_told_without_the_token(api: Api) -> None:
    for path in ("/v1/apis", "/v1/info", "/metrics", "/v1/openapi.json"):
        status, body = await api.call("GET", path, Authorization="")
        assert (status, body["code"]) == (401, "unauthorized")
        status, body = await api.call("GET", path, Authorization="Bearer wrong")
        assert (status, body["code"]) == (401, "unauthorized")
    assert (await api.call("GET", "/healthz", Authorization=""))[0] == 200


async def test_what_cannot_be_read_is_the_callers_fault(api: Api) -> None:
    sent = [("Host", b"127.0.0.1"), ("Authorization", b"Bearer \xe9")]
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = b"".join(name.encode() + b": " + value + b"\r\n" for name, value in sent)
    writer.write(b"GET /v1/info HTTP/1.1\r\n" + lines + b"\r\n")
    assert b" 401 " in await reader.readline()
    writer.close()
    deep = b'{"a":' * 3000 + b"1" + b"}" * 3000
    body = b'{"apis":[{"spec":{"name":"a","predictor":{"path":"p.py","config":' + deep + b"}}}]}"
    status, told = await api.call("POST", "/v1/plan", body)
    assert (status, told["code"]) == (400, "bad_request") and "too deep" in told["detail"]
    for levels in (32, 970, 980, 990):  # what can be read once may not be read again elsewhere
        config = b'{"a":' * levels + b"1" + b"}" * levels
        body = b'{"apis":[{"spec":{"name":"a","predictor":{"path":"p.py","config":' + config
        status, told = await api.call("POST", "/v1/plan", body + b"}}}]}")
        assert (status == 200) == (levels == 32), told


async def test_a_predictor_comes_with_its_file_and_a_lock(api: Api) -> None:
    one = ApiSpec(name="iris", predictor=Predictor(path="predictor.py"))
    manifest = encode_manifest(Manifest(files=()))
    for blob in (manifest, b"lock"):
        await api.call("PUT", f"/v1/blobs/{digest_of(blob)}", blob)
    bare = DeployRequest(apis=(DeployItem(spec=one),))
    item = DeployItem(spec=one, bundle=digest_of(manifest), lock=digest_of(b"lock"))
    for wanted, why in ((bare, "needs a bundle"), (DeployRequest(apis=(item,)), "is not among")):
        status, told = await api.call("POST", "/v1/deploy", wanted)
        assert (status, told["code"]) == (422, "incomplete") and why in told["detail"]


async def test_a_scheduler_without_its_store_is_alive_but_not_ready(
    api: Api, tmp_path: Path
) -> None:
    assert (await api.call("GET", "/readyz", Authorization=""))[0] == 200
    with closing(sqlite3.connect(tmp_path / "store.db")) as other:
        other.execute("DROP TABLE entries")
    status, body = await api.call("GET", "/readyz", Authorization="")
    assert (status, body["code"]) == (503, "unavailable") and "store" in body["detail"]
    assert (await api.call("GET", "/healthz", Authorization=""))[0] == 200


async def test_another_name_in_the_host_header_is_refused(api: Api) -> None:
    status, body = await api.call("GET", "/v1/apis", Host="evil.example")
    assert (status, body["code"]) == (421, "wrong_host")


async def test_an_api_is_deployed_listed_scaled_and_deleted(api: Api) -> None:
    status, body = await api.call("POST", "/v1/deploy", plain())
    assert (status, body["apis"][0]["action"]) == (200, "create")
    status, body = await api.call("GET", "/v1/apis")
    assert [one["name"] for one in body["apis"]] == ["iris"]
    assert body["apis"][0]["url"] == "http://127.0.0.1:8080/iris"
    status, body = await api.call("POST", "/v1/apis/iris/scale", {"replicas": 3})
    assert status == 200
    status, body = await api.call("POST", "/v1/apis/iris/scale", {"replicas": 99})
    assert (status, body["code"]) == (409, "out_of_bounds") and "1 to 10" in body["detail"]
    status, body = await api.call("POST", "/v1/apis/iris/refresh")
    assert (status, body["code"]) == (409, "updating")
    assert (await api.call("DELETE", "/v1/apis/iris"))[0] == 200
    status, body = await api.call("POST", "/v1/deploy", plain())
    assert (status, body["code"]) == (409, "deleting")


async def test_what_never_served_cannot_be_woken(api: Api) -> None:
    assert (await api.call("POST", "/v1/apis/iris/wake"))[0] == 404
    assert (await api.call("POST", "/v1/deploy", plain()))[0] == 200
    status, body = await api.call("POST", "/v1/apis/iris/wake")
    assert (status, body["code"]) == (409, "not_woken") and "serai describe" in body["detail"]


async def test_what_was_decided_about_an_earlier_api_of_its_name_is_not_told(api: Api) -> None:
    scheduler = api.scheduler
    before_s = scheduler.clock.wall()
    scheduler.ledger.add(_decided(before_s, 7))
    await scheduler.clock.sleep(60.0)
    assert (await api.call("POST", "/v1/deploy", plain()))[0] == 200
    made_s = scheduler.clock.wall()
    scheduler.ledger.add(_decided(made_s + 1.0, 2))
    _, told = await api.call("GET", "/v1/apis/iris/decisions?since=0")
    assert [one["wanted"] for one in told["decisions"]] == [2]
    _, told = await api.call("GET", f"/v1/apis/iris/explanation?at={made_s}")
    assert told["decision"] is None and "is kept of that time" in told["sentences"][0]


def _decided(at_s: float, wanted: int) -> ScaleDecision:
    return msgspec.structs.replace(DECIDED, at_s=at_s, wanted=wanted)


async def test_a_plan_changes_nothing(api: Api) -> None:
    status, body = await api.call("POST", "/v1/plan", plain())
    assert (status, body["apis"][0]["action"]) == (200, "create")
    assert (await api.call("GET", "/v1/apis"))[1]["apis"] == []


async def test_what_does_nothing_here_is_noted_with_the_plan(api: Api) -> None:
    placed = msgspec.structs.replace(spec("iris"), nodes=Nodes(class_="gpu-large"))
    for path in ("/v1/plan", "/v1/deploy"):
        _, body = await api.call("POST", path, request(placed, spec("other"), bundle=""))
        notes = {one["api"]: one["notes"] for one in body["apis"]}
        assert notes == {
            "iris": ["nodes: has no effect here: all replicas run on this machine"],
            "other": [],
        }


async def test_one_machine_has_nothing_to_tell_of_a_cluster(api: Api) -> None:
    assert await api.call("GET", "/v1/doctor") == (200, {"findings": []})


async def test_unknown_names_come_with_a_hint(api: Api) -> None:
    await api.call("POST", "/v1/deploy", plain())
    status, body = await api.call("GET", "/v1/apis/irsi")
    assert (status, body["code"]) == (404, "not_found") and "iris" in body["detail"]
    assert (await api.call("GET", "/v1/nothing"))[0] == 404
    assert (await api.call("PUT", "/v1/apis"))[0] == 405


async def test_specs_are_checked_as_in_a_file_and_all_problems_told(api: Api) -> None:
    tight = Compute(mem=Size(2**26), shm=Size(2**27))
    bad = ApiSpec(name="bad", endpoint="/Upper//x", pod=Pod(), compute=tight)
    status, body = await api.call("POST", "/v1/deploy", DeployRequest(apis=(DeployItem(spec=bad),)))
    assert (status, body["code"]) == (422, "invalid_spec")
    assert len(body["problems"]) >= 3


async def test_what_does_not_even_fit_the_types_is_told_as_in_a_file(api: Api) -> None:
    wrong = {"name": "A", "concurency": {}, "pod": {"command": ["x"], "port": 0}, "envv": {}}
    body = json.dumps({"apis": [{"spec": wrong}, {"spec": 3}]}).encode()
    status, told = await api.call("POST", "/v1/plan", body)
    assert (status, told["code"]) == (422, "invalid_spec")
    messages = [problem["message"] for problem in told["problems"]]
    assert len(messages) >= 5, messages
    assert any("did you mean" in message and "concurrency" in message for message in messages)
    assert not any("regex" in message or ":0:" in message for message in messages), messages


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"apis": []}', b'{"apis": 1, "x": 2}'])
async def test_bodies_that_do_not_fit_are_400(api: Api, body: bytes) -> None:
    status, answer = await api.call("POST", "/v1/deploy", body)
    assert status == 400 and answer["detail"]


async def test_a_deploy_without_its_files_is_refused_and_leaves_nothing(api: Api) -> None:
    status, body = await api.call("POST", "/v1/deploy", request(spec(), bundle="a" * 64))
    assert (status, body["code"]) == (409, "blobs_missing")
    assert (await api.call("GET", "/v1/apis"))[1]["apis"] == []


async def test_a_bundle_that_tells_wrong_sizes_is_refused(api: Api) -> None:
    content = b"content"
    file = BundleFile(path="predictor.py", digest=digest_of(content), size_bytes=3)
    manifest = encode_manifest(Manifest(files=(file,)))
    for data in (content, manifest):
        assert (await api.call("PUT", f"/v1/blobs/{digest_of(data)}", data))[0] == 204
    status, body = await api.call("POST", "/v1/deploy", request(spec(), bundle=digest_of(manifest)))
    assert (status, body["code"]) == (422, "size_mismatch")
    assert "predictor.py has 7 bytes, not 3 as the bundle says" in body["detail"]
    assert (await api.call("GET", "/v1/apis"))[1]["apis"] == []


async def test_blobs_are_stored_under_their_digest_only(api: Api) -> None:
    digest = digest_of(b"content")
    missing = {"digests": [digest]}
    assert (await api.call("POST", "/v1/blobs/missing", missing))[1]["digests"] == [digest]
    status, body = await api.call("PUT", f"/v1/blobs/{digest}", b"other")
    assert (status, body["code"]) == (422, "digest_mismatch")
    assert (await api.call("PUT", f"/v1/blobs/{digest}", b"content"))[0] == 204
    assert (await api.call("POST", "/v1/blobs/missing", missing))[1]["digests"] == []


async def test_reports_are_kept_and_old_or_future_ones_refused(api: Api) -> None:
    assert (await api.call("POST", "/v1/reports", report(5)))[0] == 200
    _, body = await api.call("GET", "/v1/nodes")
    assert [(n["state"], n["report"]["node"]) for n in body["nodes"]] == [("up", "one")]
    assert (await api.call("POST", "/v1/reports", report(5)))[1]["code"] == "report_old"
    future = (await api.call("POST", "/v1/reports", report(6, REPORT_VERSION + 1)))[1]
    assert future["code"] == "report_version"


async def test_the_description_is_valid_openapi_and_names_every_call(api: Api) -> None:
    _, described = await api.call("GET", "/v1/openapi.json")
    validate(described)
    assert {"/v1/apis", "/v1/deploy", "/v1/apis/{api}/logs"} <= set(described["paths"])


async def test_metrics_can_be_read_by_prometheus(api: Api) -> None:
    await api.call("POST", "/v1/deploy", plain())
    refuses = VersionTraffic(api="iris", version="v1", refused=7)
    reading = GatewayReading(run="one", ready=True, read_at_s=0.0, versions=(refuses,))
    api.scheduler.traffic.add("a", reading, api.scheduler.clock.now())
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with api.session.get(f"{api.url}/metrics", headers=headers) as response:
        text = await response.text()
    assert 'serai_scheduler_refused_requests_total{api="iris"} 7.0' in text
    families = {family.name for family in text_string_to_metric_families(text)}
    assert "serai_scheduler_wanted_replicas" in families
    assert "serai_scheduler_loop_lateness_seconds" in families


async def test_an_api_whose_record_is_damaged_is_listed_with_what_to_do(
    api: Api, tmp_path: Path
) -> None:
    await api.call("POST", "/v1/deploy", request(spec("iris"), spec("text"), bundle=""))
    with closing(sqlite3.connect(tmp_path / "store.db")) as other, other:
        other.execute("UPDATE entries SET value = x'00', revision = 99 WHERE key = 'apis/iris'")
    status, body = await api.call("GET", "/v1/apis")
    first = body["apis"][0]
    assert (first["name"], first["state"]) == ("iris", "error")
    assert "apis/iris cannot be read" in first["reason"]
    for method, path in (("GET", ""), ("POST", "/scale"), ("POST", "/refresh"), ("DELETE", "")):
        status, body = await api.call(method, f"/v1/apis/iris{path}", b'{"replicas":1}')
        assert (status, body["code"]) == (409, "unreadable") and "from a backup" in body["detail"]
    for call in ("plan", "deploy"):
        status, body = await api.call("POST", f"/v1/{call}", plain())
        assert (status, body["code"]) == (409, "unreadable")
    assert (await api.call("POST", "/v1/apis/text/scale", b'{"replicas":2}'))[0] == 200


async def test_an_update_tells_from_where_reports_are_refused(api: Api) -> None:
    await api.call("POST", "/v1/deploy", plain())
    for token in ("Bearer wrong", ""):
        assert (await api.call("POST", "/v1/reports", b"{}", Authorization=token))[0] == 401
    _, body = await api.call("GET", "/v1/apis/iris")
    assert "the reports of the agent at 127.0.0.1 are refused" in body["status"]["reason"]
