"""Three schedulers with folders of their own, on a real Consul: bundles survive one of them."""

import json
import shutil
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from serai.blobs import BATCH_RECORD
from serai.bundle import BundleFile, Manifest, encode_manifest
from serai.model import digest_of
from serai.operator import DeployRequest
from serai_scheduler.blobs.storage import key_of
from tests.cluster.agents import ConsulAgent
from tests.support.ports import free_port
from tests.support.schedulers import (
    AGENT,
    Answer,
    Scheduler,
    running,
    simulated,
    write_config,
)
from tests.support.scheduling import request, spec
from tests.support.wait import auntil

pytestmark = pytest.mark.engines


class Three:
    """Three schedulers, the first of which leads, and where each has its folder."""

    def __init__(self, folder: Path, consul_port: int) -> None:
        self.folder = folder
        self._side = simulated()[1]
        self._stack = AsyncExitStack()
        ports = [free_port() for _ in range(3)]
        peers = json.dumps([f"http://127.0.0.1:{port}" for port in ports])
        prefix = f"{uuid.uuid4()}/"
        self.configs = [
            write_config(
                folder / str(number), consul_port, prefix, f"[listen]\nport = {port}\n", peers=peers
            )
            for number, port in enumerate(ports)
        ]
        self.all: list[Scheduler] = []

    async def start(self, numbers: Sequence[int]) -> list[Scheduler]:
        configs = [self.configs[number] for number in numbers]
        return await self._stack.enter_async_context(running(configs, self._side))

    async def stop(self) -> None:
        await self._stack.aclose()

    def path(self, number: int, digest: str = "") -> Path:
        folder = self.folder / str(number) / "data" / "blobs"
        return folder / key_of(digest) if digest else folder

    def holds(self, number: int, *digests: str) -> bool:
        return all(self.path(number, digest).is_file() for digest in digests)


@pytest.fixture
async def three(consul_agent: ConsulAgent, tmp_path: Path) -> AsyncIterator[Three]:
    made = Three(tmp_path, consul_agent.port)
    try:
        made.all = await made.start([0, 1, 2])
        yield made
    finally:
        await made.stop()


async def upload(one: Scheduler, *contents: bytes) -> Answer:
    """Send contents as the command line does: what is missing, in one batch."""
    by_digest = {digest_of(content): content for content in contents}
    asked = await one.call("POST", "/v1/blobs/missing", {"digests": list(by_digest)})
    if asked.status != 200:
        return asked
    records = [
        BATCH_RECORD.pack(bytes.fromhex(digest), len(by_digest[digest])) + by_digest[digest]
        for digest in asked.body["digests"]
    ]
    return await one.call("POST", "/v1/blobs/batch", b"".join(records))


def bundle_of(*files: bytes) -> bytes:
    entries = [
        BundleFile(path=str(number), digest=digest_of(content), size_bytes=len(content))
        for number, content in enumerate(files)
    ]
    return encode_manifest(Manifest(files=tuple(entries)))


def deploying(bundle: bytes) -> DeployRequest:
    return request(spec("iris"), bundle=digest_of(bundle))


async def live(one: Scheduler) -> bool:
    found = await one.call("GET", "/v1/apis/iris")
    status = found.body["status"]  # no gateway is here to take its route
    return bool(status["version"] and status["ready"] == status["wanted"])


async def test_any_gives_out_what_was_sent_to_any(three: Three) -> None:
    first, second, third = three.all
    assert (await upload(third, b"one", b"two")).status == 204
    digest = digest_of(b"one")
    for one in three.all:
        found = await one.call("GET", f"/v1/blobs/{digest}", token=AGENT)
        assert (found.status, found.body) == (200, b"one")
    for number in range(3):
        await auntil(partial(three.holds, number, digest, digest_of(b"two")))
    for method, path in (
        ("GET", ""),
        ("GET", f"/{digest}"),
        ("PUT", f"/{digest}"),
        ("POST", "/delete"),
    ):
        told = await second.call(method, f"/v1/peers/blobs{path}", token=AGENT)
        assert (told.status, told.code) == (403, "forbidden")
        told = await first.call(method, f"/v1/peers/blobs{path}", token="")
        assert told.status == 401


async def test_a_lost_scheduler_costs_no_bundle_and_its_folder_is_filled(three: Three) -> None:
    first, second, _ = three.all
    bundle = bundle_of(b"one", b"two")
    assert (await upload(first, b"one", b"two", bundle)).status == 204
    assert (await first.call("POST", "/v1/deploy", deploying(bundle))).status == 200
    await auntil(lambda: live(first))
    await first.stop()
    shutil.rmtree(three.path(0))
    await auntil(lambda: led(three.all[1:]), 10.0)
    after = bundle_of(b"one", b"three")
    assert (await upload(second, b"one", b"three", after)).status == 204
    done = await second.call("POST", "/v1/deploy", deploying(after))
    assert done.status == 200, done.body
    await auntil(lambda: live(second))
    (again,) = await three.start([0])
    needed = [digest_of(content) for content in (b"one", b"three", after)]
    await auntil(partial(three.holds, 0, *needed), 30.0)
    metrics = (await again.call("GET", "/metrics")).body.decode()
    assert "serai_scheduler_filled_blobs_total" in metrics
    assert 'serai_scheduler_own_loop_lateness_seconds_count{loop="fill"}' in metrics


async def led(some: Sequence[Scheduler]) -> bool:
    """Tell whether each of them knows who leads."""
    return all([(await one.call("GET", "/v1/info")).status == 200 for one in some])


async def test_with_two_away_deploys_are_refused_and_what_runs_stays(three: Three) -> None:
    first, second, third = three.all
    bundle = bundle_of(b"one")
    assert (await upload(first, b"one", bundle)).status == 204
    assert (await first.call("POST", "/v1/deploy", deploying(bundle))).status == 200
    await auntil(lambda: live(first))
    await second.stop()
    await third.stop()
    after = bundle_of(b"two")
    asked = await upload(first, b"two", after)
    put = await first.call("PUT", f"/v1/blobs/{digest_of(after)}", after)
    deploy = await first.call("POST", "/v1/deploy", deploying(bundle))
    for told in (asked, put, deploy):
        assert (told.status, told.code) == (503, "unavailable")
        assert "1 of 3 schedulers can" in told.body["detail"]
        assert second.url in told.body["detail"] and third.url in told.body["detail"]
    assert not three.holds(0, digest_of(after)), "nothing of it stays"
    assert await live(first)
    found = await first.call("GET", f"/v1/blobs/{digest_of(b'one')}", token=AGENT)
    assert found.body == b"one"
    await three.start([1])
    assert (await upload(first, b"two", after)).status == 204
    assert (await first.call("POST", "/v1/deploy", deploying(after))).status == 200
