"""Several schedulers on a real Consul: any of them may be asked, one answers."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from serai import wire
from serai.blobs import PART_BYTES
from serai.clock import SystemClock
from serai.consul.client import ConsulClient, ConsulSettings
from serai.consul.leader import Leader, leader_of
from serai.consul.lease import ConsulLease
from serai.errors import ConfigError, Unavailable
from serai.lease import LeaseSettings
from serai.model import digest_of
from serai.runtime_code import read_runtime, runtime_blob, runtime_digest
from serai.spec.types import Mount
from serai_scheduler.program.forward import PASSED_ON
from serai_scheduler.program.offline import REASON
from serai_scheduler.program.passing import ANSWERED_BY
from tests.cluster.agents import ConsulAgent, consul
from tests.support.schedulers import (
    ADMIN,
    AGENT,
    SHORT_LEASE,
    LiveEngine,
    Scheduler,
    running,
    simulated,
    write_config,
)
from tests.support.scheduling import report, request, spec
from tests.support.wait import auntil

pytestmark = pytest.mark.engines


class Pair:
    """A leader, another scheduler, and what both run their replicas on."""

    def __init__(
        self, leader: Scheduler, other: Scheduler, engine: LiveEngine, prefix: str, port: int
    ) -> None:
        self.leader, self.other, self.engine = leader, other, engine
        self.prefix, self.consul_port = prefix, port


@pytest.fixture
async def pair(consul_agent: ConsulAgent, tmp_path: Path) -> AsyncIterator[Pair]:
    prefix = f"{uuid.uuid4()}/"
    engine, side = simulated()
    configs = [write_config(tmp_path / name, consul_agent.port, prefix) for name in ("a", "b")]
    async with running(configs, side) as (first, second):
        assert await first.leads() and not await second.leads()
        yield Pair(first, second, engine, prefix, consul_agent.port)


async def live(one: Scheduler, api: str = "iris") -> bool:
    found = await one.call("GET", f"/v1/apis/{api}")
    status = found.body["status"]  # no gateway is here to take its route
    return bool(status["version"] and status["ready"] == status["wanted"])


async def test_whoever_is_asked_the_leader_answers(pair: Pair) -> None:
    told = await pair.other.call("POST", "/v1/deploy", request(spec("iris"), bundle=""))
    assert told.status == 200 and told.body["apis"][0]["action"] == "create"
    await auntil(lambda: live(pair.other))
    for path in ("/v1/apis", "/v1/info", "/v1/apis/nothing", "/v1/none", "/v1/nodes"):
        here, there = [await one.call("GET", path) for one in (pair.other, pair.leader)]
        assert (here.status, here.headers["Content-Type"]) == (
            there.status,
            there.headers["Content-Type"],
        )
    refused = await pair.other.call("POST", "/v1/apis/iris/scale", {"replicas": 99})
    assert (refused.status, refused.code) == (409, "out_of_bounds")
    done = await pair.other.call("POST", "/v1/apis/iris/scale", {"replicas": 3})
    assert done.status == 200
    await auntil(lambda: len(pair.engine.servers) == 3)


async def test_the_key_tells_where_the_leader_is(pair: Pair) -> None:
    async with ConsulClient(ConsulSettings(port=pair.consul_port)) as client:
        leader = await leader_of(client, pair.prefix)
        assert leader is not None and leader.address == pair.leader.url
        before = leader.epoch
        await pair.leader.stop()
        await auntil(pair.other.leads, 2.0)
        leader = await leader_of(client, pair.prefix)
        assert leader is not None and leader.address == pair.other.url
        assert leader.epoch == before + 1


async def test_an_epoch_that_was_raised_by_hand_costs_a_term_and_no_more(pair: Pair) -> None:
    async with ConsulClient(ConsulSettings(port=pair.consul_port)) as client:
        value = base64.b64encode(wire.encode(Leader(epoch=50, address=pair.leader.url))).decode()
        write = {"KV": {"Verb": "set", "Key": f"{pair.prefix}leader", "Value": value}}
        assert (await client.put("/v1/txn", [write])).status == 200

        async def deployed() -> bool:
            told = await pair.leader.call("POST", "/v1/deploy", request(spec("iris"), bundle=""))
            return told.status == 200

        await auntil(deployed)
        await auntil(lambda: live(pair.other))
        leader = await leader_of(client, pair.prefix)
        assert leader is not None and leader.epoch == 51


async def test_the_next_leader_goes_on_with_a_deploy(pair: Pair) -> None:
    wanted = request(spec("iris", low=4), bundle="")
    assert (await pair.leader.call("POST", "/v1/deploy", wanted)).status == 200
    await pair.leader.stop()
    await auntil(lambda: live(pair.other))
    assert len(pair.engine.replicas) == 4, "none is started twice"


async def test_shared_blobs_are_served_by_whoever_is_asked(
    consul_agent: ConsulAgent, tmp_path: Path
) -> None:
    """Each one's memory stands for a store that all share, so that one sees who answered."""
    prefix, (_, side) = f"{uuid.uuid4()}/", simulated()
    configs = [
        write_config(tmp_path / name, consul_agent.port, prefix, blobs='"memory:///store"')
        for name in ("a", "b")
    ]
    digest = digest_of(b"content")
    async with running(configs, side) as (first, second):
        assert (await second.call("PUT", f"/v1/blobs/{digest}", b"content")).status == 204
        assert (await second.call("GET", f"/v1/blobs/{digest}", token=AGENT)).body == b"content"
        assert (await first.call("GET", f"/v1/blobs/{digest}")).status == 404
        asked = await second.call("POST", "/v1/blobs/missing", {"digests": [digest]})
        assert asked.body == {"digests": [digest]}, "the leader hears what it may not collect"


async def test_uploads_go_through_as_they_are(pair: Pair) -> None:
    content = b"x" * (3 * PART_BYTES // 16) + b"the end"
    digest = digest_of(content)
    sent = await pair.other.call("PUT", f"/v1/blobs/{digest}", content)
    assert sent.status == 204
    for one in (pair.leader, pair.other):
        found = await one.call("GET", f"/v1/blobs/{digest}", token=AGENT)
        assert found.status == 200 and digest_of(found.body) == digest
        assert found.headers["Content-Length"] == str(len(content))
    wrong = await pair.other.call("PUT", f"/v1/blobs/{'0' * 64}", content)
    assert (wrong.status, wrong.code) == (422, "digest_mismatch")
    empty = await pair.other.call("PUT", f"/v1/blobs/{digest_of(b'')}", b"")
    assert empty.status == 204
    unknown = await pair.other.call("POST", "/v1/blobs/missing", {"digests": [digest, "1" * 64]})
    assert unknown.body == {"digests": ["1" * 64]}


async def test_an_upload_that_breaks_off_leaves_nothing(pair: Pair) -> None:
    content = b"y" * 100_000
    digest = digest_of(content)
    host, port = pair.other.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT /v1/blobs/{digest} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n"
    writer.write((head + f"Authorization: Bearer {ADMIN}\r\n\r\n").encode() + content[:50_000])
    await writer.drain()
    writer.transport.abort()
    assert (await pair.other.call("GET", f"/v1/blobs/{digest}")).status == 404
    assert (await pair.other.call("PUT", f"/v1/blobs/{digest}", content)).status == 204


async def test_lines_come_as_they_are_written_until_the_leader_changes(pair: Pair) -> None:
    await pair.other.call("POST", "/v1/deploy", request(spec("iris"), bundle=""))
    whole = await pair.other.call("GET", "/v1/apis/iris/logs")
    assert [json.loads(line)["text"] for line in whole.body.splitlines()] == [
        "line 0",
        "line 1",
        "line 2",
    ]
    async with pair.other.session.get(
        f"{pair.other.url}/v1/apis/iris/logs?follow=1",
        headers={"Authorization": f"Bearer {ADMIN}"},
    ) as response:
        assert b"line 0" in await response.content.readline()
        assert b"line 1" in await response.content.readline()
        began_s = SystemClock().now()
        await pair.leader.stop()
        assert SystemClock().now() - began_s < 3.0, "who follows does not keep it from its end"
        await response.read()  # it ends in good order
    await auntil(pair.other.leads, 2.0)


async def test_a_token_for_agents_and_one_for_people(pair: Pair) -> None:
    for one in (pair.other, pair.leader):
        assert (await one.call("GET", "/v1/info", token=AGENT)).status == 200
        for method, path in (
            ("POST", "/v1/deploy"),
            ("GET", "/v1/apis"),
            ("GET", "/metrics"),
            ("PUT", f"/v1/blobs/{'0' * 64}"),
            ("POST", "/v1/blobs/missing"),
            ("GET", "/v1/blobs/../apis"),
        ):
            told = await one.call(method, path, token=AGENT)
            assert (told.status, told.code) == (403, "forbidden"), path
        for token in ("", "wrong", AGENT[:-1]):
            assert (await one.call("GET", "/v1/apis", token=token)).status == 401
            assert (await one.call("POST", "/v1/reports", report(1), token=token)).status == 401
        assert (await one.call("GET", "/healthz", token="")).status == 200
        assert (await one.call("GET", "/readyz", token="")).status == 200
        told = await one.call("GET", "/readyz", Host="evil.example")
        assert (told.status, told.code) == (421, "wrong_host")
    assert (await pair.other.call("POST", "/v1/reports", report(1), token=AGENT)).status == 200
    nodes = (await pair.leader.call("GET", "/v1/nodes")).body["nodes"]
    assert [node["node"] for node in nodes if node["report"]] == ["one"]


async def test_nothing_is_passed_on_twice(pair: Pair) -> None:
    told = await pair.other.call("DELETE", "/v1/apis/iris", None, **{PASSED_ON: "1"})
    assert (told.status, told.code) == (503, "no_leader")
    assert int(told.headers["Retry-After"]) > 0


async def test_a_write_that_comes_too_late_is_to_be_asked_again(pair: Pair) -> None:
    """The key changed under the leader, as it does when another one takes the lead."""
    async with ConsulClient(ConsulSettings(port=pair.consul_port)) as client:
        _, (entry,) = await client.entries(f"{pair.prefix}leader", recurse=False)
        value = base64.b64encode(entry["Value"] + b" ").decode()
        write = {"KV": {"Verb": "set", "Key": f"{pair.prefix}leader", "Value": value}}
        assert (await client.put("/v1/txn", [write])).status == 200
    told = await pair.other.call("POST", "/v1/deploy", request(spec("iris"), bundle=""))
    assert (told.status, told.code) == (503, "no_leader")
    assert int(told.headers["Retry-After"]) > 0


async def test_each_tells_of_itself(pair: Pair) -> None:
    for one, leads in ((pair.leader, True), (pair.other, False)):
        ready = await one.call("GET", "/readyz")
        assert (ready.status, ready.body) == (
            200,
            {"store": True, "engine": True, "leads": leads},
        )
        metrics = (await one.call("GET", "/metrics")).body.decode()
        assert f"serai_scheduler_leading_flag {float(leads)}" in metrics
        assert ("serai_scheduler_loop_lateness_seconds" in metrics) is leads
        assert (await one.call("GET", "/v1/openapi.json")).status == 200


async def test_without_the_engine_it_is_ready_and_says_so(
    consul_agent: ConsulAgent, tmp_path: Path
) -> None:
    async def away() -> None:
        raise Unavailable("no Nomad")

    side = replace(simulated()[1], ask=away)
    config = write_config(tmp_path / "a", consul_agent.port, f"{uuid.uuid4()}/")
    async with running([config], side) as (one,):
        ready = await one.call("GET", "/readyz")
        assert (ready.status, ready.body["engine"]) == (200, False)


async def test_a_key_that_is_none_of_ours_ends_it_with_a_plain_word(
    consul_agent: ConsulAgent, tmp_path: Path
) -> None:
    prefix = f"{uuid.uuid4()}/"
    config = write_config(tmp_path / "a", consul_agent.port, prefix)
    async with ConsulClient(ConsulSettings(port=consul_agent.port)) as client:
        write = {"KV": {"Verb": "set", "Key": f"{prefix}leader", "Value": "bm90ZXM="}}
        assert (await client.put("/v1/txn", [write])).status == 200
    with pytest.raises(ConfigError, match=f"{prefix}leader: .*mend it"):
        async with running([config], simulated()[1]):
            pass


async def test_what_the_cluster_cannot_run_is_refused(pair: Pair) -> None:
    mounting = msgspec.structs.replace(spec("iris"), mounts=(Mount(host="/etc", path="/etc"),))
    told = await pair.other.call("POST", "/v1/deploy", request(mounting, bundle=""))
    assert (told.status, told.code) == (422, "invalid_spec")
    assert "allows no mounts" in told.body["problems"][0]["message"]


async def test_the_runtime_lies_among_the_blobs(pair: Pair) -> None:
    path = f"/v1/blobs/{runtime_digest()}"

    async def stored() -> bool:
        return (await pair.other.call("GET", path, token=AGENT)).status == 200

    await auntil(stored)
    blob = (await pair.other.call("GET", path, token=AGENT)).body
    assert blob == runtime_blob() and "server.py" in read_runtime(blob)


@asynccontextmanager
async def lock_held(port: int, prefix: str) -> AsyncIterator[None]:
    """Hold the lock of the leader, so that no scheduler leads."""
    settings = LeaseSettings(ttl_s=60.0)
    async with ConsulClient(ConsulSettings(port=port)) as client:
        lease = ConsulLease(client, SystemClock(), f"{prefix}leader", "test", settings)
        assert await lease.acquire(20.0)
        try:
            yield
        finally:
            await lease.release()


async def test_without_a_leader_records_are_read_and_nothing_is_written(
    consul_agent: ConsulAgent, tmp_path: Path
) -> None:
    """The key still tells the address of the last leader: first nobody is there, then one who
    does not lead, which may make no circle."""
    prefix = f"{uuid.uuid4()}/"
    _, side = simulated()
    configs = [write_config(tmp_path / name, consul_agent.port, prefix) for name in ("a", "b")]
    async with running(configs[:1], side) as (one,):
        deployed = request(spec("iris"), spec("other"), bundle="")
        assert (await one.call("POST", "/v1/deploy", deployed)).status == 200
        await auntil(lambda: live(one))
    async with lock_held(consul_agent.port, prefix):
        async with running(configs[1:], side, lead=False) as (one,):
            await told_by_the_store(one)
        async with running(configs, side, lead=False) as both:
            for one in both:
                await told_by_the_store(one)


async def told_by_the_store(one: Scheduler) -> None:
    listed = await one.call("GET", "/v1/apis")
    assert listed.status == 200 and listed.headers[ANSWERED_BY] == "store"
    assert [api["name"] for api in listed.body["apis"]] == ["iris", "other"]
    assert {api["state"] for api in listed.body["apis"]} == {"unknown"}
    described = await one.call("GET", "/v1/apis/iris")
    assert described.body["status"]["reason"] == REASON
    assert described.body["versions"][0]["role"] == "serving"
    assert (await one.call("GET", "/v1/apis/none")).status == 404
    for method, path in (
        ("POST", "/v1/deploy"),
        ("DELETE", "/v1/apis/iris"),
        ("POST", "/v1/reports"),
        ("GET", "/v1/nodes"),
        ("GET", "/v1/apis/iris/logs"),
        ("PUT", f"/v1/blobs/{'0' * 64}"),
    ):
        told = await one.call(method, path, b"{}" if method in ("POST", "PUT") else None)
        assert (told.status, told.code) == (503, "no_leader"), path
        assert int(told.headers["Retry-After"]) > 0


async def test_with_consul_away_it_stops_to_lead_and_says_so(tmp_path: Path) -> None:
    _, side = simulated()
    with consul(tmp_path / "own") as agent:
        config = write_config(tmp_path / "a", agent.port, "serai/", SHORT_LEASE)
        async with running([config], side) as (one,):
            agent.pause()
            await auntil(lambda: _stopped(one), 5.0)
            told = await one.call("POST", "/v1/deploy", request(spec("a"), bundle=""))
            assert (told.status, told.code) == (503, "no_leader")
            await auntil(lambda: _without_store(one), 10.0)
            agent.resume()
            await auntil(one.leads, 20.0)


async def test_consul_is_asked_with_the_token_of_its_file(tmp_path: Path) -> None:
    right, wrong = (str(uuid.uuid4()) for _ in range(2))
    (tmp_path / "right").write_text(right)
    (tmp_path / "wrong").write_text(wrong)
    _, side = simulated()
    with consul(tmp_path / "own", right) as agent:
        configs = [
            write_config(tmp_path / f"with-{file}", agent.port, "serai/", "", str(tmp_path / file))
            for file in ("right", "wrong")
        ]
        async with running(configs[:1], side) as (one,):
            assert await one.leads()
        async with running(configs[1:], side, lead=False) as (one,):
            ready = await one.call("GET", "/readyz")
            assert (ready.status, ready.body["store"]) == (503, False)


async def _stopped(one: Scheduler) -> bool:
    return not await one.leads()


async def _without_store(one: Scheduler) -> bool:
    """Say whether it tells that the store does not answer; it asks once a second."""
    ready = await one.call("GET", "/readyz")
    return (ready.status, ready.body["store"]) == (503, False)
