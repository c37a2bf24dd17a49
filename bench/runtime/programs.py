"""Starts and ends the servers under test."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

HERE = Path(__file__).parent
PREDICTORS = HERE / "predictors"
BODY = '{"a": 1, "b": 2, "c": 3}'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Running:
    """A started server."""

    process: "subprocess.Popen[bytes]"
    port: int
    ready_s: float

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def family(self) -> list[psutil.Process]:
        """Return the process and all that it has started."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@contextlib.contextmanager
def running(
    command: Sequence[str],
    port: int,
    answers: Callable[[int], bool],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    within_s: float = 60.0,
    log: Path | None = None,
) -> Iterator[Running]:
    """Run a server until the block ends; raises RuntimeError when it does not answer in time."""
    # Compiled modules are kept, as in an installed environment.
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began_s = time.monotonic()
    with open(log or os.devnull, "wb") as output:
        process = subprocess.Popen(
            command,
            env={**inherited, **(environment or {})},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while not answers(port):
            if process.poll() is not None:
                raise RuntimeError(f"it ended with status {process.returncode}")
            if time.monotonic() - began_s > within_s:
                raise RuntimeError(f"no right answer within {within_s:g} s")
            time.sleep(0.005)
        yield Running(process, port, time.monotonic() - began_s)
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]", within_s: float = 15.0) -> None:
    """End a process and everything that it has started."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(within_s)
    if process.poll() is None:
        process.kill()
        process.wait()
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, 5)


def post_json(port: int, path: str, body: str) -> object:
    """Return the JSON of a POST's answer, or None when there is none."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return json.loads(response.read()) if response.status == 200 else None
    except (OSError, ValueError, HTTPException):
        return None
    finally:
        connection.close()


def says_six(port: int, path: str = "/") -> bool:
    return post_json(port, path, BODY) == {"sum": 6}


def serai(predictor: str, *options: str) -> contextlib.AbstractContextManager[Running]:
    """Serve one of the benchmark's predictors with the runtime."""
    port = free_port()
    command = [sys.executable, "-m", "serai_runtime", str(PREDICTORS / f"{predictor}.py")]
    command += ["--port", str(port), *options]
    return running(command, port, lambda port: _ready(port))


def _ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def plain() -> contextlib.AbstractContextManager[Running]:
    """Serve the plain aiohttp handler."""
    port = free_port()
    return running([sys.executable, str(HERE / "plain.py"), str(port)], port, says_six)
