"""An image registry of a test's own (Debian's docker-registry), which wants a password."""

import base64
import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.wait import until

USER, PASSWORD = "puller", "a secret of the tests"
HASHED = "$2y$05$abcdefghijklmnopqrstuuBdd/beQLOhD0XcgJ2wlY1HK2zpY9SJe"
START_LIMIT_S = 20.0

CONFIGURATION = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: tests, path: {folder}/passwords}}}}
"""


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run a registry with its data below `folder` and return its address; skip without one."""
    if shutil.which("docker-registry") is None and not os.environ.get("CI"):
        pytest.skip("needs docker-registry")
    port = free_port()
    (folder / "passwords").write_text(f"{USER}:{HASHED}\n")
    (folder / "config.yml").write_text(CONFIGURATION.format(folder=folder, port=port))
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            until(lambda: _listens(port), START_LIMIT_S, (folder / "log").read_text())
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def login(password: str) -> str:
    """Return what stands for a login in docker's configuration."""
    return base64.b64encode(f"{USER}:{password}".encode()).decode()


def _listens(port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def silent_registry() -> Iterator[str]:
    """Listen as a registry does, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
