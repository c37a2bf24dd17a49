"""A dockerd of a test's own, with one image that holds a small HTTP server."""

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import docker
import psutil
import pytest

from serai_agent.local.containers import docker_problem
from tests.support.wait import until

IMAGE = "serai-test:1"
BRIDGE = "serai"
SERVER = """
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/exit":
            print("leaving now", flush=True)
            os._exit(9)
        if self.path == "/say":
            print("to out", flush=True)
            print("to err", file=sys.stderr, flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["SERAI_REPLICA"].encode())
    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"""


def image_tar() -> bytes:
    """Return a root folder with next to nothing in it: programs come in by mounts."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in ("usr", "tmp", "proc", "dev", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        for name in ("lib", "lib64", "bin"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            archive.addfile(link)
        file = tarfile.TarInfo("server.py")
        file.size = len(SERVER)
        archive.addfile(file, io.BytesIO(SERVER.encode()))
    return data.getvalue()


_numbers = count()
LONGEST_SOCKET = 107
"""How many bytes Linux takes for the name of a socket."""


@contextlib.contextmanager
def bridge() -> Iterator[str]:
    """Make a bridge of this dockerd's own, so that no other one is in the way."""
    number = next(_numbers)
    name = f"{BRIDGE}{os.getpid()}x{number}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        address = f"10.{213 + number % 40}.{os.getpid() % 250}.1/24"
        subprocess.run(["ip", "address", "add", address, "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


def owner_of(name: str) -> str:
    """Return the process that made a bridge, by the bridge's name."""
    return name.removeprefix(BRIDGE).partition("x")[0]


def end_those_of_dead_runs() -> None:
    """End what a test run left that was killed itself: the bridge tells whose a dockerd is."""
    for process in psutil.process_iter(["name", "cmdline"]):
        options = dict(
            part[2:].split("=", 1) for part in process.info["cmdline"] or () if "=" in part
        )
        owner = owner_of(options.get("bridge", ""))
        if (
            process.info["name"] == "dockerd"
            and owner.isdigit()
            and not psutil.pid_exists(int(owner))
        ):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()  # it ends its containers, too
            psutil.wait_procs([process], timeout=30)
            _unmount(Path(options["pidfile"]).parent)
    for link in Path("/sys/class/net").glob(f"{BRIDGE}[0-9]*"):
        if not psutil.pid_exists(int(owner_of(link.name))):
            _run_if(link.exists, ["ip", "link", "delete", link.name])


def _run_if(needed: Callable[[], bool], command: list[str]) -> None:
    """Run what another test may be doing as well: it may fail where it is not needed any more."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not needed(), done.stderr


@contextlib.contextmanager
def dockerd(folder: Path) -> Iterator[str]:
    """Run a dockerd with its data below `folder` and return its address; skip without one."""
    missing = shutil.which("dockerd") is None or os.geteuid() != 0
    if missing and not os.environ.get("CI"):
        pytest.skip("needs dockerd and root")
    end_those_of_dead_runs()
    longest = f"{folder}/exec/containerd/containerd.sock.ttrpc"
    assert len(longest) <= LONGEST_SOCKET, f"take a folder of a shorter name than {folder}"
    address = f"unix://{folder}/d.sock"
    with bridge() as name, (folder / "log").open("wb") as log:
        options = {
            "host": address,
            "data-root": folder / "data",
            "exec-root": folder / "exec",
            "pidfile": folder / "pid",
            "bridge": name,
            "iptables": "false",
        }
        command = ["dockerd", *(f"--{key}={value}" for key, value in options.items())]
        with subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                until(lambda: docker_problem(address) is None, 30.0, (folder / "log").read_text())
                client = docker.DockerClient(base_url=address)
                client.api.import_image_from_data(image_tar(), *IMAGE.split(":"))
                client.close()
                yield address
            finally:
                process.terminate()
                process.wait()
                _unmount(folder)


def _unmount(folder: Path) -> None:
    """Let go of what dockerd keeps mounted after its end: the network of the host, once used."""
    for point in reversed([one for one in _mounts() if one.startswith(f"{folder}/")]):
        _run_if(partial(_is_mounted, point), ["umount", point])


def _is_mounted(point: str) -> bool:
    return point in _mounts()


def _mounts() -> list[str]:
    return [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
