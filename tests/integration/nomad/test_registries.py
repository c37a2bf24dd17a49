"""Images from private registries on the real Nomad, dockerd and docker-registry."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import msgspec
import pytest

from serai.model import Replica, ReplicaState, Version
from serai.spec.types import Compute, Container, Mount, Readiness
from serai.units import Size
from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.names import job_name
from serai_scheduler.nomad.reading import replica_of
from serai_scheduler.nomad.settings import JobSettings
from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad
from tests.support.dockerd import IMAGE, dockerd
from tests.support.registry import PASSWORD, USER, login, registry, silent_registry
from tests.unit.nomad import values

pytestmark = pytest.mark.engines

DRIVER = """
plugin "docker" {{
  config {{
    endpoint = "{address}"
    volumes {{ enabled = true }}
    auth {{ config = "{passwords}" }}
  }}
}}
"""
PYTHON = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
SETTINGS = JobSettings(leave_s=0.2, restarts=0, image_pull_limit_s=3)


@dataclass
class Site:
    """A node that has a login for `known`, a wrong one for `wrong`, none for `strange`."""

    nomad: NomadAgent
    docker_address: str
    known: str
    wrong: str
    strange: str
    digest: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(dockerd(tmp_path_factory.mktemp("d")))
        known, wrong, strange = (
            stack.enter_context(registry(tmp_path_factory.mktemp("registry"))) for _ in range(3)
        )
        passwords = tmp_path_factory.mktemp("docker") / "config.json"
        logins = {known: {"auth": login(PASSWORD)}, wrong: {"auth": login("another")}}
        passwords.write_text(json.dumps({"auths": logins}))
        (digest, _, _) = [push(address, one) for one in (known, wrong, strange)]
        driver = DRIVER.format(address=address, passwords=passwords)
        nomad = stack.enter_context(own_nomad(tmp_path_factory.mktemp("nomad"), driver))
        yield Site(nomad, address, known, wrong, strange, digest)


def push(address: str, where: str) -> str:
    """Put the tests' image into a registry, keep it only there, and return its digest."""
    name = f"{where}/team/server"
    client = docker.DockerClient(base_url=address)
    with contextlib.closing(client):
        client.images.get(IMAGE).tag(name, "1")
        secret = {"username": USER, "password": PASSWORD}
        told = client.images.push(name, "1", auth_config=secret, stream=True, decode=True)
        (digest,) = [line["aux"]["Digest"] for line in told if "aux" in line]
        client.images.remove(f"{name}:1")
    return str(digest)


def of_image(image: str) -> Version:
    """Return a version that runs the tests' server from an image, with this machine's Python."""
    spec = Container(image=image, command=(PYTHON,), args=("/server.py",))
    content = msgspec.structs.replace(
        values.containers(spec).content,
        mounts=tuple(Mount(host=place, path=place) for place in ("/usr", sys.base_prefix)),
        compute=Compute(mem=Size(2**27)),
        readiness=Readiness(path="/"),
    )
    return values.version(content, api="private")


@contextlib.contextmanager
def registered(site: Site, image: str) -> Iterator[tuple[Version, dict[str, Any]]]:
    version = of_image(image)
    job = job_of(version, [1], SETTINGS, drain_s=5)
    site.nomad.register(job)
    try:
        yield version, job
    finally:
        site.nomad.purge(job["ID"])


def failed(site: Site, version: Version, job: dict[str, Any]) -> Replica:
    (one,) = site.nomad.exactly(
        1, lambda: [a for a in site.nomad.allocations(job["ID"]) if a["ClientStatus"] == "failed"]
    )
    replica = replica_of(one, job_name(version), 1, True, ())
    assert replica.state is ReplicaState.FAILED
    return replica


def forget(site: Site) -> None:
    """Remove all images from the node, so that they have to be pulled."""
    client = docker.DockerClient(base_url=site.docker_address)
    with contextlib.closing(client):
        for image in client.images.list():
            client.images.remove(str(image.id), force=True)


@pytest.mark.parametrize("pinned", [False, True])
def test_a_private_image_is_pulled_with_the_secret_of_the_node(site: Site, pinned: bool) -> None:
    """The secret stands in a file of the node: not in the job, which everybody may read."""
    image = f"{site.known}/team/server"
    forget(site)
    with registered(site, f"{image}@{site.digest}" if pinned else f"{image}:1") as (_, job):
        site.nomad.exactly(1, lambda: site.nomad.passing("private"))
        text = json.dumps(site.nomad.call("GET", f"/job/{job['ID']}"))
        assert PASSWORD not in text and USER not in text


def test_why_an_image_cannot_be_had_is_told(site: Site) -> None:
    lacking = f"{site.known}/team/server@sha256:{'0' * 64}"
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(silent_registry())
        asked = {
            f"{site.known}/team/none:1": "there is no image ",
            f"{site.known}/team/server:9": "there is no image ",
            lacking: f"there is no image {lacking}; check its name and its tag or digest",
            f"{site.strange}/team/server:1": "refuses to give it; its node needs a login",
            f"{site.wrong}/team/server:1": "refuses to give it; its node needs a login",
            f"{silent}/team/server:1": "did not arrive in its time",
            "127.0.0.1:1/team/server:1": "cannot be reached: tcp 127.0.0.1:1: connect: conn",
        }
        jobs = {image: stack.enter_context(registered(site, image)) for image in asked}
        for image, words in asked.items():
            reason = failed(site, *jobs[image]).reason
            assert words in reason and image in reason, reason
