"""Replicas made of containers: the engine's side of the shim that stands for them."""

import asyncio
import contextlib
import os
import socket
import sys

import psutil
from docker.errors import DockerException

from serai import wire
from serai.errors import ConfigError
from serai.model import Version, digest_of
from serai_agent.local.body import ProcessBody
from serai_agent.local.container_shim import (
    ContainerEnd,
    ContainerOrder,
    ShimStatus,
    connect,
    remove_labelled,
)
from serai_agent.local.folder import Launch, Order, ReplicaFolder
from serai_agent.local.judge import End
from serai_agent.local.place import Place
from serai_agent.local.settings import LocalSettings

USUAL_ADDRESS = "unix:///var/run/docker.sock"
PING_LIMIT_S = 3.0
CLEAR_LIMIT_S = 30.0


def docker_problem(url: str = "") -> str | None:
    """Say why containers cannot be run here, None when they can; blocks for up to 3 s."""
    try:
        _knock(url or os.environ.get("DOCKER_HOST", USUAL_ADDRESS))
        client = connect(url, PING_LIMIT_S)
        try:
            client.ping()
        finally:
            client.close()
    except (DockerException, OSError) as error:
        where = url or os.environ.get("DOCKER_HOST", USUAL_ADDRESS)
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return (
            f"containers need dockerd, which does not answer at {where} ({why}); start it, "
            "or give pod.command to run a program without a container"
        )
    return None


def _knock(address: str) -> None:
    """Raise OSError when a local dockerd does not listen: its library would leave a socket open."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(PING_LIMIT_S)
            knocking.connect(address.removeprefix("unix://"))


def has_containers(version: Version) -> bool:
    """Say whether a version is made of containers."""
    return version.content.pod is not None and bool(version.content.pod.containers)


def order_of(
    order: Order, folder: ReplicaFolder, port: int, settings: LocalSettings
) -> ContainerOrder:
    """Return what the shim is to run. Pure."""
    content, version = order.version.content, order.version
    assert content.pod is not None
    return ContainerOrder(
        label=label_of(folder),
        docker_url=settings.docker_url,
        containers=content.pod.containers,
        host=settings.host,
        host_port=port,
        port=content.pod.port,
        env={
            **content.env,
            "SERAI_API": version.api,
            "SERAI_VERSION": version.name,
            "SERAI_REPLICA": order.replica,
        },
        millicores=content.compute.cpu.millicores,
        memory_bytes=content.compute.mem.bytes if content.compute.mem else None,
        shared_memory_bytes=content.compute.shm.bytes if content.compute.shm else None,
        gpus=content.compute.gpu,
        mounts=content.mounts,
        status_file=str(folder.status_file),
        end_file=str(folder.path / "container.json"),
    )


def label_of(folder: ReplicaFolder) -> str:
    """Return the label of a replica's containers: another engine's replica has another folder."""
    place = digest_of(str(folder.path).encode())[:12]
    return f"{folder.path.name}-{place}"


class ContainerBody(ProcessBody):
    """A keeper whose child is the shim; the shim's containers are the replica."""

    def _launch_of(self, place: Place, ports: tuple[int, ...]) -> Launch:
        settings = self._settings
        order = order_of(self._order, self._folder, ports[0], settings)
        self._folder.write("containers.json", wire.encode(order))
        names = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
        return Launch(
            command=(
                *(sys.executable, "-m", "serai_agent.local.container_shim"),
                str(self._folder.path / "containers.json"),
            ),
            env={
                **{name: os.environ[name] for name in names if name in os.environ},
                "TMPDIR": str(self._folder.temporary),
            },
            cwd=str(self._folder.temporary),
            log_file_bytes=settings.log_file_bytes,
            log_files=settings.log_files,
            log_line_bytes=settings.log_line_bytes,
            oom_score_adj=0,
            ports=ports,
            launches=self._launches,
        )

    async def stranger_on(self, port: int) -> bool:
        return False  # dockerd publishes the port or refuses to start the container

    async def end(self, *, stop_asked: bool) -> End:
        found = await super().end(stop_asked=stop_asked)
        await self._clear_containers()
        try:
            told = wire.decode((self._folder.path / "container.json").read_bytes(), ContainerEnd)
        except (OSError, ConfigError):
            return found
        reason = told.problem or (str(told.exit) if told.exit and not stop_asked else found.reason)
        return End(found.state, reason, told.exit or found.exit)

    async def clear(self) -> None:
        self._folder.drop("containers.json", "container.json")
        await super().clear()

    def roots(self) -> tuple[int, ...]:
        """Return the processes of containerd above those of the containers."""
        try:
            status = wire.decode(self._folder.status_file.read_bytes(), ShimStatus)
        except (OSError, ConfigError):
            return ()
        found: list[int] = []
        for pid in status.pids:
            with contextlib.suppress(psutil.Error, OSError):
                found.append(psutil.Process(pid).ppid())
        return tuple(found)

    async def _clear_containers(self) -> None:
        """Remove what a killed shim left; what dockerd does not answer now waits for the next."""

        def remove() -> None:
            _knock(self._settings.docker_url or os.environ.get("DOCKER_HOST", USUAL_ADDRESS))
            client = connect(self._settings.docker_url, CLEAR_LIMIT_S)
            try:
                remove_labelled(client, label_of(self._folder))
            finally:
                client.close()

        with contextlib.suppress(DockerException, OSError, TimeoutError):
            async with asyncio.timeout(CLEAR_LIMIT_S):
                await asyncio.to_thread(remove)
