"""Runs the containers of one replica as a process that a keeper can keep.

Run as `python -m serai_agent.local.container_shim ORDER.json`. Containers belong to dockerd; this
process stands for them: it prints what they print, ends them on SIGTERM, ends with the exit code
of the first that ended, and says in a status file how far it is. Left-overs are recognised by
their label, so that a killed shim leaves nothing for long.
"""

import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.types import DeviceRequest, LogConfig, Mount

from serai import wire
from serai.errors import ConfigError
from serai.model import Exit, Value
from serai.spec.types import Container as ContainerSpec
from serai.spec.types import Mount as MountSpec

LABEL = "serai.replica"
CALL_LIMIT_S = 60
PULL_LIMIT_S = 600
"""The longest silence of dockerd while it pulls an image, not the longest pull."""
EXIT_NOT_RUN = 125
LOG_OPTIONS = {"max-size": "10m", "max-file": "2"}
"""dockerd keeps a log of its own; ours is the one that is read."""


class ContainerOrder(Value):
    """What to run; `port` is inside the containers, `host_port` on the node."""

    label: str
    docker_url: str
    containers: tuple[ContainerSpec, ...]
    host: str
    host_port: int
    port: int
    env: dict[str, str]
    millicores: int
    memory_bytes: int | None
    shared_memory_bytes: int | None
    gpus: int
    mounts: tuple[MountSpec, ...]
    status_file: str
    end_file: str


class ContainerEnd(Value):
    """How it ended, in more words than an exit code has."""

    exit: Exit | None = None
    problem: str = ""


class ShimStatus(Value):
    """What the engine reads meanwhile, in the form of the runtime's status file."""

    processes: tuple[dict[str, int | str], ...]
    pids: tuple[int, ...] = ()


def connect(url: str, timeout_s: float) -> docker.DockerClient:
    """Return a client of dockerd, the usual one unless an address is given."""
    if url:
        return docker.DockerClient(base_url=url, timeout=int(timeout_s))
    return docker.from_env(timeout=int(timeout_s))


def remove_labelled(client: docker.DockerClient, label: str) -> None:
    """Remove all containers of a replica, running or not."""
    for container in client.containers.list(all=True, filters={"label": f"{LABEL}={label}"}):
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)


class Shim:
    """The life of one replica's containers."""

    def __init__(self, order: ContainerOrder, client: docker.DockerClient) -> None:
        self._order = order
        self._client = client
        self._containers: list[Container] = []
        self._printers: list[threading.Thread] = []
        self._ended: queue.SimpleQueue[Container | None] = queue.SimpleQueue()

    def run(self) -> Exit:
        """Return how the first container ended; none is left then."""
        try:
            remove_labelled(self._client, self._order.label)
            for spec in self._order.containers:
                self._fetch(spec.image)
            self._tell("starting")
            signal.signal(signal.SIGTERM, lambda *_: self._ended.put(None))
            for index, spec in enumerate(self._order.containers):
                self._start(index, spec)
            self._tell("ready")
            return self._wait()
        finally:
            remove_labelled(self._client, self._order.label)

    def _fetch(self, image: str) -> None:
        try:
            self._client.images.get(image)
        except ImageNotFound:
            self._tell(f"pulling {image}")
            repository, tag = split_image(image)
            patient = connect(self._order.docker_url, PULL_LIMIT_S)
            with contextlib.closing(patient):
                patient.images.pull(repository, tag=tag)

    def _start(self, index: int, spec: ContainerSpec) -> None:
        options = self._options(index, spec)
        command = list(spec.args) or None
        if spec.command:
            options["entrypoint"] = list(spec.command)
        container = self._client.containers.create(spec.image, command, **options)
        self._containers.append(container)
        container.start()
        prefix = f"[{spec.name or index}] ".encode() if len(self._order.containers) > 1 else b""
        for out, err in ((True, False), (False, True)):
            lines = container.logs(stream=True, follow=True, stdout=out, stderr=err)
            stream = sys.stdout.buffer if out else sys.stderr.buffer
            printer = threading.Thread(target=_print, args=(lines, prefix, stream), daemon=True)
            printer.start()
            self._printers.append(printer)
        threading.Thread(target=self._watch, args=(container,), daemon=True).start()

    def _options(self, index: int, spec: ContainerSpec) -> dict[str, Any]:
        order = self._order
        options: dict[str, Any] = {
            "name": f"serai-{order.label.replace('/', '-')}-{index}",
            "labels": {LABEL: order.label},
            "environment": {**order.env, **spec.env, "PORT": str(order.port)},
            "mem_limit": order.memory_bytes,
            "shm_size": order.shared_memory_bytes,
            "cpu_shares": max(2, order.millicores * 1024 // 1000),
            "security_opt": ["no-new-privileges"],
            "log_config": LogConfig(type=LogConfig.types.JSON, config=LOG_OPTIONS),
            "mounts": [
                Mount(mount.path, mount.host, type="bind", read_only=mount.read_only)
                for mount in order.mounts
            ],
            "init": True,
            "detach": True,
        }
        if order.gpus:
            options["device_requests"] = [DeviceRequest(count=order.gpus, capabilities=[["gpu"]])]
        if index == 0:
            options["ports"] = {f"{order.port}/tcp": (order.host, order.host_port)}
        else:
            options["network_mode"] = f"container:{self._containers[0].id}"
        return options

    def _watch(self, container: Container) -> None:
        with contextlib.suppress(DockerException, OSError):
            self._client.api.wait(container.id or "", timeout=None)
        self._ended.put(container)

    def _wait(self) -> Exit:
        first = self._ended.get()
        if first is None:  # told to end: all get the signal, the keeper watches the time
            for container in self._containers:
                with contextlib.suppress(APIError):
                    container.kill(signal="SIGTERM")
            while (first := self._ended.get()) is None:
                continue
        first.reload()
        for printer in self._printers[:2]:
            printer.join(timeout=2.0)
        return exit_of(first.attrs["State"])

    def _tell(self, phase: str) -> None:
        pids = []
        for container in self._containers:
            container.reload()
            pids.append(int(container.attrs["State"]["Pid"]))
        status = ShimStatus(processes=({"index": 0, "phase": phase},), pids=tuple(pids))
        _write(self._order.status_file, wire.encode(status))


def split_image(image: str) -> tuple[str, str | None]:
    """Split an image's name; without a tag dockerd would pull all of them. Pure."""
    if "@" in image:
        return image, None
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def exit_of(state: dict[str, Any]) -> Exit:
    """Return how a container ended, from dockerd's words. Pure."""
    code, oom = int(state.get("ExitCode", 0)), bool(state.get("OOMKilled"))
    if code > 128 and code - 128 in {int(number) for number in signal.Signals}:
        return Exit(signal=signal.Signals(code - 128).name, oom=oom)
    return Exit(exit_code=code, oom=oom)


def _print(chunks: Iterator[bytes], prefix: bytes, stream: BinaryIO) -> None:
    rest = b""
    with contextlib.suppress(DockerException, OSError):
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                stream.write(prefix + line + b"\n")
            stream.flush()
    if rest:
        stream.write(prefix + rest + b"\n")
        stream.flush()


def _write(path: str, data: bytes) -> None:
    fresh = Path(path + ".new")
    with contextlib.suppress(OSError):
        fresh.write_bytes(data)
        os.replace(fresh, path)


def main() -> int:
    """Run an order; the exit status is that of the container, 125 when it could not be run."""
    order = wire.decode(Path(sys.argv[1]).read_bytes(), ContainerOrder)
    try:
        how = Shim(order, connect(order.docker_url, CALL_LIMIT_S)).run()
    except (DockerException, OSError) as error:
        end = ContainerEnd(problem=f"dockerd: {getattr(error, 'explanation', None) or error}")
    else:
        end = ContainerEnd(exit=how)
    _write(order.end_file, wire.encode(end))
    if end.exit is None:
        print(end.problem, file=sys.stderr, flush=True)
        return EXIT_NOT_RUN
    return end.exit.exit_code if end.exit.exit_code is not None else EXIT_NOT_RUN


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConfigError as problem:
        sys.exit(f"the order cannot be read: {problem}")
