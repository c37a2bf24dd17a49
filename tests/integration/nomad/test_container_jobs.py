"""Jobs of containers on the real Nomad, Consul and dockerd."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import docker
import docker.errors
import msgspec
import pytest

from serai.model import Version
from serai.spec.types import Compute, Container, Mount, Readiness
from serai.units import Size
from serai_scheduler.nomad.driver_words import in_words
from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.settings import JobSettings
from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad
from tests.support.dockerd import IMAGE, dockerd
from tests.support.wait import until
from tests.unit.nomad.values import containers

pytestmark = pytest.mark.engines

SETTINGS = JobSettings(leave_s=0.2)
DRIVER = """
plugin "docker" {{
  config {{
    endpoint = "{address}"
    allow_privileged = false
    volumes {{ enabled = true }}
  }}
}}
"""
PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
SERVER = Container(image=IMAGE, name="main", command=(PYTHON,), args=("/server.py",))
ASKS_THE_FIRST = """
import os, time, urllib.request
while True:
    time.sleep(0.2)
    try:
        text = urllib.request.urlopen("http://127.0.0.1:" + os.environ["PORT"]).read().decode()
    except OSError:
        continue
    print("the first said", text, "${HOME}", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def docker_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dockerd(tmp_path_factory.mktemp("d")) as address:
        yield address


@pytest.fixture(scope="module")
def nomad(docker_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadAgent]:
    folder = tmp_path_factory.mktemp("nomad")
    with own_nomad(folder, DRIVER.format(address=docker_address)) as agent:
        yield agent


def serving(*others: Container) -> Version:
    """Return a version of containers that see this machine's Python."""
    plain = containers(SERVER, *others)
    places = sorted({"/usr", sys.base_prefix})
    content = msgspec.structs.replace(
        plain.content,
        mounts=tuple(Mount(host=place, path=place) for place in places),
        compute=Compute(mem=Size(128 * 2**20), shm=Size(2**21)),
        readiness=Readiness(path="/"),
    )
    return msgspec.structs.replace(plain, content=content)


@contextlib.contextmanager
def registered(nomad: NomadAgent, version: Version) -> Iterator[dict[str, Any]]:
    job = job_of(version, [1], SETTINGS, drain_s=5)
    nomad.register(job)
    try:
        yield job
    finally:
        nomad.purge(job["ID"])


def test_two_containers_are_one_replica(nomad: NomadAgent, docker_address: str) -> None:
    """The second reaches the first on 127.0.0.1; both are as unprivileged and bounded as asked."""
    side = Container(image=IMAGE, name="side", command=(PYTHON, "-c", ASKS_THE_FIRST))
    client = docker.DockerClient(base_url=docker_address)
    version = serving(side)
    name = f"two.{version.name}.1"
    with contextlib.closing(client), registered(nomad, version) as job:
        (service,) = nomad.exactly(1, lambda: nomad.passing("two"))
        (one,) = nomad.exactly(1, lambda: nomad.running(job["ID"]))
        with urlopen(f"http://127.0.0.1:{service['Port']}/say", timeout=10) as answer:
            assert answer.read().decode() == name == service["Meta"]["replica"]
        text = f"the first said {name} ${{HOME}}"
        until(lambda: text in nomad.said(one["ID"], "container-1-side", "stdout"), 20.0)
        until(lambda: "to out" in nomad.said(one["ID"], "replica", "stdout"), 20.0)
        found = {c.labels["serai.container"]: c for c in client.containers.list()}
        assert set(found) == {"main", "side"}
        for container in found.values():
            limits = container.attrs["HostConfig"]
            assert not limits["Privileged"] and limits["ReadonlyRootfs"] is False
            assert limits["SecurityOpt"] == ["no-new-privileges"]
            assert limits["Memory"] == 64 * 2**20 and limits["ShmSize"] == 2**21
            assert {
                mount["RW"] for mount in container.attrs["Mounts"] if mount["Source"] == "/usr"
            } == {False}
            assert container.labels["serai.replica"] == name
            assert container.labels["com.hashicorp.nomad.alloc_id"] == one["ID"]
            assert container.labels["serai.version"] == service["Meta"]["version"]
    with contextlib.closing(client):
        assert client.containers.list(all=True) == []


def test_a_port_that_another_program_has_is_told(docker_address: str) -> None:
    """By dockerd's own words: Nomad's driver tries for half a minute before it passes them on."""
    client = docker.DockerClient(base_url=docker_address)
    with contextlib.closing(client), contextlib.closing(socket.socket()) as taking:
        taking.bind(("127.0.0.1", 0))
        taking.listen()
        port = taking.getsockname()[1]
        publishing = {"8000/tcp": ("127.0.0.1", port)}
        container = client.containers.create(IMAGE, ["x"], ports=publishing)
        try:
            with pytest.raises(docker.errors.APIError) as refused:
                container.start()
        finally:
            container.remove(force=True)
    said = f"Failed to start container 4a: API error (500): {refused.value.explanation}"
    words = in_words(said)
    assert words.startswith(f"port {port} of its node is taken by a program"), said


def test_one_container_that_ends_takes_the_others_along(nomad: NomadAgent) -> None:
    """A container started again alone would have lost the network of the first."""
    side = Container(image=IMAGE, name="side", command=("/usr/bin/sleep", "2"))
    with registered(nomad, serving(side)) as job:
        nomad.exactly(1, lambda: nomad.passing("two"))

        def ended() -> list[dict[str, Any]]:
            (one,) = nomad.allocations(job["ID"])
            dead = all(task["State"] == "dead" for task in (one["TaskStates"] or {}).values())
            return [one] if one["ClientStatus"] == "failed" and dead else []

        (failed,) = until(ended, 20.0)
        states = failed["TaskStates"]
        assert set(states) == {"replica", "container-1-side"}
        assert {states[name]["Restarts"] for name in states} == {0}
        # The scheduler replaces what failed for good; Nomad alone leaves it.
        assert nomad.exactly(0, lambda: nomad.passing("two")) == []
        assert failed["NextAllocation"] == "" and failed["FollowupEvalID"] == ""
