"""A dockerd of a test's own, with one image that holds a small HTTP server."""

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from serai_agent.local.containers import docker_problem
from tests.support.wait import until

IMAGE = "serai-test:1"
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


@contextlib.contextmanager
def bridge() -> Iterator[str]:
    """Make a bridge of this process's own, so that no other dockerd is in the way."""
    name = f"serai{os.getpid() % 10**8}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        address = f"10.213.{os.getpid() % 250}.1/24"
        subprocess.run(["ip", "address", "add", address, "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


@contextlib.contextmanager
def dockerd(folder: Path) -> Iterator[str]:
    """Run a dockerd with its data below `folder` and return its address; skip without one."""
    missing = shutil.which("dockerd") is None or os.geteuid() != 0
    if missing and not os.environ.get("CI"):
        pytest.skip("needs dockerd and root")
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
