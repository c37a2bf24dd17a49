"""Containers through a dockerd of the test's own: run, limited, logged, ended, cleared away."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import msgspec
import pytest

from serai.engine import LogQuery
from serai.errors import Refused
from serai.model import Exit, ReplicaState, Version
from serai.spec.types import Compute, Container, Mount, Pod
from serai.units import Size
from serai_agent.local.container_shim import exit_of, split_image
from serai_agent.local.folder import ReplicaFolder
from serai_agent.local.settings import LocalSettings
from tests.integration.local.world import (
    FolderCache,
    all_lines,
    ask,
    engine_on,
    eventually,
    in_state,
    ready,
    version,
)
from tests.support.dockerd import IMAGE
from tests.support.dockerd import dockerd as own_dockerd


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a dockerd of the test's own and return its address."""
    with own_dockerd(tmp_path_factory.mktemp("d")) as address:
        yield address


def containers(*specs: Container) -> Version:
    """Return a version of containers that see this machine's Python."""
    places = {"/usr", sys.base_prefix}
    mounts = tuple(Mount(host=place, path=place) for place in sorted(places))
    plain = version(mounts=mounts)
    content = msgspec.structs.replace(
        plain.content,
        pod=Pod(port=8080, containers=specs),
        compute=Compute(mem=Size(256 * 2**20), shm=Size(2**20)),
    )
    return msgspec.structs.replace(plain, content=content)


def server(**changes: object) -> Container:
    python = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return Container(image=IMAGE, command=(python,), args=("/server.py",), **changes)  # type: ignore[arg-type]


def labelled(address: str) -> list[str]:
    client = docker.DockerClient(base_url=address)
    with contextlib.closing(client):
        return [c.name or "" for c in client.containers.list(all=True)]


async def test_containers_serve_log_and_end(dockerd: str, tmp_path: Path) -> None:
    settings = LocalSettings(mount_roots=("/",), docker_url=dockerd, usage_period_s=0.1)
    cache = FolderCache(tmp_path)
    async with engine_on(tmp_path / "engine", cache, settings=settings) as engine:
        sleeper = Container(image=IMAGE, name="side", command=("/usr/bin/sleep", "600"))
        await engine.start(["api-1"], containers(server(name="main"), sleeper), epoch=1)
        replica = await in_state(engine, "api-1", ReplicaState.READY, within_s=30.0)
        assert await ask(replica, "/say") == (200, "api-1")

        async def logged() -> bool:
            found = await all_lines(engine, LogQuery(api="api", grep="to "))
            return {(line.stream, line.text) for line in found} == {
                ("out", "[main] to out"),
                ("err", "[main] to err"),
            }

        await eventually(logged)
        client = docker.DockerClient(base_url=dockerd)
        with contextlib.closing(client):
            (main,) = [c for c in client.containers.list() if c.name and c.name.endswith("-0")]
            assert main.attrs["HostConfig"]["Memory"] == 256 * 2**20
            assert main.attrs["HostConfig"]["ShmSize"] == 2**20
            (binding,) = main.attrs["HostConfig"]["PortBindings"]["8080/tcp"]
            assert binding["HostIp"] == "127.0.0.1"

        async def used() -> bool:
            return any(use.processes >= 2 and use.memory_bytes > 0 for use in engine.usage())

        await eventually(used)
        await engine.stop(["api-1"], 10.0, epoch=1)
        stopped = await in_state(engine, "api-1", ReplicaState.STOPPED, within_s=30.0)
        assert stopped.exit is not None
        assert labelled(dockerd) == []


async def test_a_container_that_ends_is_a_failed_replica(dockerd: str, tmp_path: Path) -> None:
    settings = LocalSettings(mount_roots=("/",), docker_url=dockerd)
    async with engine_on(tmp_path / "engine", FolderCache(tmp_path), settings=settings) as engine:
        await engine.start(["api-1"], containers(server()), epoch=1)
        replica = await in_state(engine, "api-1", ReplicaState.READY, within_s=30.0)
        with contextlib.suppress(OSError):
            await ask(replica, "/exit")
        failed = await in_state(engine, "api-1", ReplicaState.FAILED, within_s=30.0)
        assert failed.exit == Exit(exit_code=9) and failed.log_tail[-1] == "leaving now"
        missing = Container(image="127.0.0.1:1/nothing:1")
        await engine.start(["api-2"], containers(missing), epoch=1)
        failed = await in_state(engine, "api-2", ReplicaState.FAILED, within_s=30.0)
        assert "dockerd" in failed.reason
        assert labelled(dockerd) == []


async def test_containers_outlive_the_engine_but_not_their_keeper(
    dockerd: str, tmp_path: Path
) -> None:
    settings, cache = LocalSettings(mount_roots=("/",), docker_url=dockerd), FolderCache(tmp_path)
    folder = tmp_path / "engine"
    async with engine_on(folder, cache, keep=True, settings=settings) as engine:
        await engine.start(["api-1"], containers(server()), epoch=1)
        before = await in_state(engine, "api-1", ReplicaState.READY, within_s=30.0)
    async with engine_on(folder, cache, settings=settings) as engine:
        assert (await ready(engine, "api-1")).servers == before.servers
        assert await ask(before, "/") == (200, "api-1")
        state = ReplicaFolder(folder / "replicas" / "api-1").keeper_state()
        assert state is not None
        os.kill(state.keeper_pid, 9)
        failed = await in_state(engine, "api-1", ReplicaState.FAILED, within_s=30.0)
        assert "keeper" in failed.reason
        assert labelled(dockerd) == []


async def test_without_dockerd_containers_are_refused_with_the_reason(tmp_path: Path) -> None:
    settings = LocalSettings(mount_roots=("/",), docker_url=f"unix://{tmp_path}/none.sock")
    async with engine_on(tmp_path / "engine", FolderCache(tmp_path), settings=settings) as engine:
        with pytest.raises(Refused, match=r"dockerd.*none\.sock"):
            await engine.start(["api-1"], containers(server()), epoch=1)
        assert list(await engine.observe()) == []


def test_what_dockerd_says_of_an_end() -> None:
    assert exit_of({"ExitCode": 3}) == Exit(exit_code=3)
    assert exit_of({"ExitCode": 137, "OOMKilled": True}) == Exit(signal="SIGKILL", oom=True)
    assert exit_of({"ExitCode": 143, "OOMKilled": False}) == Exit(signal="SIGTERM")
    assert exit_of({"ExitCode": 255}) == Exit(exit_code=255)


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("nginx", ("nginx", "latest")),
        ("nginx:1.27", ("nginx", "1.27")),
        ("host:5000/a/b", ("host:5000/a/b", "latest")),
        ("host:5000/a/b:2", ("host:5000/a/b", "2")),
        ("a@sha256:00", ("a@sha256:00", None)),
    ],
)
def test_names_of_images(image: str, parts: tuple[str, str | None]) -> None:
    assert split_image(image) == parts
