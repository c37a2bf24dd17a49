"""A real `serai up` in a folder of its own, driven through the real command line."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.support.ports import free_port
from tests.support.wait import until

SERAI = str(Path(sys.executable).parent / "serai")
START_LIMIT_S = 30.0
DEPLOY_LIMIT_S = 240.0


class Answer:
    """An HTTP answer, errors included."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status, self.body, self.headers = status, body, headers

    def json(self) -> Any:
        return json.loads(self.body)


def call(
    url: str, body: bytes | None = None, headers: dict[str, str] | None = None, method: str = ""
) -> Answer:
    """Send one request and return whatever comes back."""
    request = Request(url, data=body, headers=headers or {}, method=method or None)
    try:
        with urlopen(request, timeout=60) as response:
            return Answer(response.status, response.read(), _lower(response.headers))
    except HTTPError as error:
        with error:
            return Answer(error.code, error.read(), _lower(error.headers))


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class Serai:
    """One data folder with its `serai up`."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.gateway, self.control = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway}"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SERAI_")}
        return {**kept, "SERAI_DATA_DIR": str(self.data)}

    def up(self, *options: str) -> None:
        """Start it in the foreground of its own and wait until it serves."""
        log = (self.data.parent / "up.log").open("ab")
        command = [SERAI, "up", "--port", str(self.gateway), "--control-port", str(self.control)]
        self.process = subprocess.Popen(
            [*command, "--data-dir", str(self.data), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=self.environment,
            start_new_session=True,
        )
        log.close()
        until(self._serves, START_LIMIT_S, what=f"serai up does not serve: {self.log()}")

    def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        told = self.data / "endpoint.json"
        return told.exists() and json.loads(told.read_text())["pid"] == self.process.pid

    def log(self) -> str:
        """Return what `serai up` has said so far."""
        path = self.data.parent / "up.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def kill(self) -> None:
        """End the Python process as a crash does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def down(self) -> int:
        """End everything of this folder; return the exit status of `serai up`."""
        self.run("down")
        return self.process.wait(60) if self.process is not None else 0

    def run(
        self, *arguments: str, timeout_s: float = DEPLOY_LIMIT_S, stdin: bytes | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command of the CLI against this folder."""
        return subprocess.run(
            [SERAI, *arguments],
            input=stdin.decode() if stdin is not None else None,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self.environment,
        )

    def deploy(self, folder: Path, *options: str) -> str:
        """Deploy a folder, wait for its end, and insist on success."""
        done = self.run("deploy", str(folder), "--wait", *options)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.log()}"
        return done.stdout

    def describe(self, api: str) -> dict[str, Any]:
        """Return what the operator API says of one API."""
        token = (self.data / "admin-token").read_text().strip()
        url = f"http://127.0.0.1:{self.control}/v1/apis/{api}"
        answer = call(url, headers={"Authorization": f"Bearer {token}"})
        assert answer.status == 200, answer.body
        described: dict[str, Any] = answer.json()
        return described

    def processes(self) -> list[int]:
        """Return the ids of every process that belongs to this folder."""
        mine = str(self.data).encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if mine in path.read_bytes() and int(path.parent.name) != os.getpid():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found


@contextmanager
def serving(folder: Path) -> Iterator[Serai]:
    """Run a Serai below a folder; in the end nothing of it is left."""
    serai = Serai(folder / "data")
    try:
        serai.up()
        yield serai
    finally:
        serai.run("down")
        if serai.process is not None and serai.process.poll() is None:
            serai.process.wait(60)
        left = serai.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, f"left behind: {left}"


def write_predictor(folder: Path, code: str, spec: str = "", name: str = "hello") -> Path:
    """Write a project with one predictor; `spec` holds more YAML lines of the API."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictor.py").write_text(code)
    text = f"name: {name}\npredictor:\n  path: predictor.py\n"
    (folder / "serai.yaml").write_text(text + spec)
    return folder
