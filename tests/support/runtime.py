"""A runtime under test: the real program in processes of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.wait import until

PREDICTORS = Path(__file__).parent.parent / "integration" / "runtime" / "predictors"


class Served:
    """A running `serai-runtime`; `ports` has one port per process."""

    def __init__(self, process: "subprocess.Popen[bytes]", ports: list[int], folder: Path) -> None:
        self.process = process
        self.ports = ports
        self.folder = folder

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def get(self, path: str, port: int | None = None) -> tuple[int, Any]:
        """Return status and JSON of a GET; status 0 when nobody listens."""
        connection = HTTPConnection("127.0.0.1", port or self.ports[0], timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            return response.status, json.loads(body) if path != "/metrics" else body.decode()
        except OSError:
            return 0, None
        finally:
            connection.close()

    def ready(self) -> bool:
        assert self.process.poll() is None, f"it ended: {self.log_text()}"
        return all(self.get("/readyz", port)[0] == 200 for port in self.ports)

    def log_text(self) -> str:
        return (self.folder / "log").read_text()

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """Return the log's events, or those of one name."""
        lines = [line for line in self.log_text().splitlines() if line.startswith("{")]
        return [one for line in lines if (one := json.loads(line))["event"].startswith(name)]

    def event(self, name: str, within_s: float = 15.0) -> dict[str, Any]:
        """Wait for an event and return the first of that name."""
        return until(lambda: self.events(name), within_s, f"no event {name!r}")[0]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "status.json").read_text())
        return found

    def pids(self) -> list[int]:
        return [one["pid"] for one in self.status()["processes"] if one["pid"]]

    def stop(self, within_s: float = 20.0) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)


@contextmanager
def served(
    predictor: str | Path,
    folder: Path,
    *options: str,
    processes: int = 1,
    config: dict[str, Any] | None = None,
    wait: bool = True,
) -> Iterator[Served]:
    """Run a predictor of the test's, or the file named; it is ended in any case."""
    path = PREDICTORS / f"{predictor}.py" if isinstance(predictor, str) else predictor
    config_path = folder / "config.json"
    config_path.write_text(json.dumps({"folder": str(folder), **(config or {})}))
    ports = [free_port() for _ in range(processes)]
    command = [
        *(sys.executable, "-m", "serai_runtime", str(path)),
        *("--port", ",".join(map(str, ports)), "--config", str(config_path)),
        *("--status-file", str(folder / "status.json"), *options),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    found = Served(process, ports, folder)
    try:
        if wait:
            until(found.ready, 30.0, "not ready within 30 s")
        yield found
    finally:
        if process.poll() is None:
            process.kill()  # its workers end with it
            process.wait(10)


def alive(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ProcessLookupError):
        return False
    return state != "Z"
