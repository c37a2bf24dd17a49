"""Predictors in containers on the real Nomad and dockerd, with what a node's agent builds."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

import docker
import msgspec
import pytest

from serai.clock import SystemClock
from serai.model import ReplicaState, Version
from serai.runtime_code import runtime_digest, runtime_requirements
from serai.spec.types import Batch, Compute, Predictor
from serai.units import Cpu, Size
from serai_agent.cache.node import NodeCache
from serai_agent.cache.settings import CacheSettings
from serai_cli.project.lock import LockRequest, resolve
from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.names import job_name
from serai_scheduler.nomad.reading import replica_of
from serai_scheduler.nomad.settings import JobSettings
from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad
from tests.support.contents import Contents
from tests.support.dockerd import dockerd
from tests.support.predictor_image import PREDICTOR_IMAGE, PYTHON, import_image
from tests.support.wait import until
from tests.unit.nomad import values

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

DRIVER = """
plugin "docker" {{
  config {{
    endpoint = "{address}"
    allow_privileged = false
    volumes {{ enabled = true }}
    gc {{ image = false }}
  }}
}}
"""
WHO = """
import os, sys, tempfile, time

def writes(folder):
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False

class Predictor:
    def __init__(self, config):
        if config.get("hoard"):
            self.hoard = [bytes(2**20) * 8 for _ in range(1000)]
        self.config = config

    def predict(self, payload):
        time.sleep(payload.get("sleep", 0))
        bundle = os.path.dirname(__file__)
        return {
            "config": self.config,
            "python": "%d.%d" % sys.version_info[:2],
            "prefix": sys.prefix,
            "user": os.getuid(),
            "replica": os.environ["SERAI_REPLICA"],
            "writes": [one for one in ("/", "/tmp", tempfile.gettempdir(), os.environ["HOME"],
                                       sys.prefix, bundle) if writes(one)],
        }
"""
BATCHED = (
    WHO.replace('time.sleep(payload.get("sleep", 0))', "")
    .replace("return {", "return [{")
    .replace("        }\n", "        } for _ in payload]\n")
)


@dataclass
class Cluster:
    """A Nomad with docker, and the caches of its one node as its agent has them."""

    nomad: NomadAgent
    docker_address: str
    contents: Contents
    cache: NodeCache
    settings: JobSettings
    lock: bytes

    def version(self, code: str, predictor: Predictor, api: str, **changes: object) -> Version:
        content = msgspec.structs.replace(
            values.predictor().content,
            predictor=predictor,
            bundle=self.contents.add_bundle({"predictor.py": code}),
            lock=self.contents.add(self.lock),
            runtime=runtime_digest(),
            python=PYTHON,
            env={},
            compute=Compute(cpu=Cpu(200), mem=Size(2**28)),
        )
        content = msgspec.structs.replace(content, **changes)
        return values.version(content, api=api)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with dockerd(tmp_path_factory.mktemp("d")) as address:
        platform = import_image(address)
        folder, cache_dir = tmp_path_factory.mktemp("nomad"), tmp_path_factory.mktemp("cache")
        request = LockRequest(None, runtime_requirements(), PYTHON, "x86_64-unknown-linux-gnu")
        lock = asyncio.run(resolve(request, tmp_path_factory.mktemp("locks"), 0.0))
        contents = Contents()
        cache = NodeCache(
            SystemClock(), cache_dir, contents, CacheSettings(image_platform=platform)
        )
        settings = JobSettings(
            predictor_image=PREDICTOR_IMAGE,
            platform=platform,
            cache_dir=str(cache_dir),
            leave_s=0.2,
            restarts=0,
        )
        with own_nomad(folder, DRIVER.format(address=address)) as nomad:
            yield Cluster(nomad, address, contents, cache, settings, lock.text.encode())


@contextlib.contextmanager
def registered(cluster: Cluster, version: Version, *numbers: int) -> Iterator[dict[str, Any]]:
    job = job_of(version, numbers or (1,), cluster.settings, drain_s=20)
    cluster.nomad.register(job)
    try:
        yield job
    finally:
        cluster.nomad.purge(job["ID"])


def prepare(cluster: Cluster, version: Version, times: int = 1) -> None:
    async def place() -> None:
        await asyncio.gather(*(cluster.cache.place(version, print) for _ in range(times)))

    asyncio.run(place())


def read(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def call(port: int, body: object) -> Any:
    request = Request(
        f"http://127.0.0.1:{port}/",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_two_replicas_share_what_is_built_once(cluster: Cluster) -> None:
    """Each is a container with two processes, without rights, that can write where it should."""
    predictor = Predictor(
        path="predictor.py", config={"a": "${HOME}"}, processes=2, batch=Batch(max_size=4)
    )
    unbuilt = cluster.contents.add(cluster.lock + b"# for this test alone\n")
    version = cluster.version(BATCHED, predictor, "pair", concurrency_per_replica=8, lock=unbuilt)
    nomad, builds = cluster.nomad, cluster.cache.environments.builds
    client = docker.DockerClient(base_url=cluster.docker_address)
    with contextlib.closing(client), registered(cluster, version, 1, 2) as job:
        nomad.exactly(2, lambda: nomad.running(job["ID"]))
        assert client.containers.list() == [], "nothing starts before its parts are there"
        prepare(cluster, version, times=2)
        assert cluster.cache.environments.builds == builds + 1
        services = nomad.exactly(4, lambda: nomad.passing("pair"))
        answers = [call(service["Port"], {}) for service in services]
        names = {f"pair.{version.name}.{number}" for number in (1, 2)}
        assert {one["replica"] for one in answers} == names
        (answer,) = [a for a in answers if a["replica"] == services[0]["Meta"]["replica"]][:1]
        assert answer["config"] == {"a": "${HOME}"} and answer["python"] == PYTHON
        assert answer["user"] == 65534 and answer["prefix"].startswith(cluster.settings.cache_dir)
        assert answer["writes"] == ["/tmp", "/alloc/tmp", "/local"]
        containers = client.containers.list()
        assert {one.labels["serai.replica"] for one in containers} == names
        for container in containers:
            limits = container.attrs["HostConfig"]
            assert not limits["Privileged"] and limits["ReadonlyRootfs"] and limits["Init"]
            assert limits["CapDrop"] == ["all"] and limits["NetworkMode"] != "host"
            assert limits["SecurityOpt"] == ["no-new-privileges"]
            assert limits["Memory"] == 2**28
            shown = [
                m
                for m in container.attrs["Mounts"]
                if m["Source"].startswith(cluster.settings.cache_dir)
            ]
            assert len(shown) == 2 and not any(mount["RW"] for mount in shown)


def test_what_is_in_flight_is_answered_before_the_end(cluster: Cluster) -> None:
    version = cluster.version(WHO, Predictor(path="predictor.py"), "slow")
    prepare(cluster, version)
    nomad = cluster.nomad
    with ThreadPoolExecutor(1) as pool:
        with registered(cluster, version):
            (service,) = nomad.exactly(1, lambda: nomad.passing("slow"))
            answer = pool.submit(call, service["Port"], {"sleep": 4})
            url = f"http://127.0.0.1:{service['Port']}/metrics"
            until(lambda: b"in_flight_requests 1" in read(url), 10.0)
        assert answer.result()["user"] == 65534


def test_one_that_needs_more_memory_than_it_has_says_so(cluster: Cluster) -> None:
    predictor = Predictor(path="predictor.py", config={"hoard": True})
    version = cluster.version(WHO, predictor, "hoard")
    prepare(cluster, version)
    nomad = cluster.nomad
    with registered(cluster, version) as job:
        (failed,) = nomad.exactly(
            1, lambda: [a for a in nomad.allocations(job["ID"]) if a["ClientStatus"] == "failed"]
        )
        replica = replica_of(failed, job_name(version), 1, True, ())
        assert (replica.state, replica.reason) == (ReplicaState.FAILED, "killed: out of memory")


def test_a_python_that_the_image_lacks_is_told(cluster: Cluster) -> None:
    version = cluster.version(WHO, Predictor(path="predictor.py"), "newer", python="3.13")
    prepare(cluster, version)
    nomad = cluster.nomad
    with registered(cluster, version) as job:
        (failed,) = nomad.exactly(
            1, lambda: [a for a in nomad.allocations(job["ID"]) if a["ClientStatus"] == "failed"]
        )
        reason = replica_of(failed, job_name(version), 1, True, ()).reason
        assert reason == "exit code 127: its command, or that one's Python, is not there"
        assert "/bin/python failed: No such file" in nomad.said(failed["ID"], "replica")
