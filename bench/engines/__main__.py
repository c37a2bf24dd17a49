"""`make bench-engines`: 250 APIs on a real Nomad and Consul of one machine.

20 of them have three replicas that are processes, the others one task of Nomad's mock driver. All
are deployed, scaled and deleted through the command line; requests to the engines are counted.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from bench.engines.machine import MOCK, Machine, machine
from bench.report import Figure, exactly, finish
from tests.support.wait import until

APIS, REAL, REPLICAS = 250, 20, 3
PER_DEPLOY = 40
UPDATES = 5
QUIET_S = 30.0
LIMIT_S = 900.0
MOST_TOLD = 5
SERVER = """\
import os
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        return None


HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"""
API = """\
- name: {name}
  pod: {{command: [{python}, server.py]}}
  compute: {{cpu: 20m, mem: 20Mi}}
  autoscaling: {{min_replicas: {replicas}, max_replicas: 9}}
  env: {{ROUND: "{round}"}}
"""
REAL_NAMES = [f"real-{number}" for number in range(REAL)]
MOCK_NAMES = [f"{MOCK}{number}" for number in range(APIS - REAL)]


class Meter:
    """Measures phases: their seconds, and the requests a second that each engine has meanwhile."""

    def __init__(self, cluster: Machine) -> None:
        self.figures: dict[str, Figure] = {}
        self._cluster = cluster

    def phase(self, name: str, work: Callable[[], None]) -> float:
        """Do something and keep what it took."""
        before, began_s = self._cluster.requests(), time.monotonic()
        work()
        took_s = time.monotonic() - began_s
        self.figures[f"{name}_s"] = took_s
        for engine, counts in self._cluster.requests().items():
            new = counts - before[engine]
            self.figures[f"{name}_{engine}_requests_per_s"] = new.total() / took_s
            print(f"{name}: {engine}: {_most(new)}", flush=True)
        return took_s


def _most(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common(6)) or "none"


def write_project(folder: Path, names: list[str], number: int = 0) -> Path:
    """Write a project with these APIs; another `number` makes other versions of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.py").write_text(SERVER)
    (folder / "serai.yaml").write_text(
        "".join(
            API.format(
                name=name,
                python=sys.executable,
                replicas=1 if name.startswith(MOCK) else REPLICAS,
                round=number,
            )
            for name in names
        )
    )
    return folder


def deploy(cluster: Machine, project: Path, wait: bool) -> None:
    how = "--wait" if wait else "--detach"
    done = cluster.operator.run("deploy", str(project), how, "-y", timeout_s=LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def all_ready(cluster: Machine, count: int, ready: dict[str, int]) -> bool:
    """Say whether so many APIs are live, and some have as many ready replicas as they should."""
    apis = cluster.operator.statuses()
    return len(apis) == count and not _late(apis, ready)


def missing(cluster: Machine, count: int, ready: dict[str, int]) -> str:
    """Tell how many APIs there are and which of them are not as `all_ready` wants them."""
    apis = cluster.operator.statuses()
    late = _late(apis, ready)
    told = "".join(f"\n{one['name']}: {one['state']}: {one['reason']}" for one in late[:MOST_TOLD])
    return f"{len(apis)} of {count} APIs, {len(late)} of them not ready:{told}"


def _late(apis: dict[str, Any], ready: dict[str, int]) -> list[Any]:
    return [
        one
        for name, one in apis.items()
        if one["state"] not in ("live", "idle") or one["ready"] != ready.get(name, one["ready"])
    ]


def measure(cluster: Machine, folder: Path) -> dict[str, Figure]:
    meter = Meter(cluster)
    full = dict.fromkeys(REAL_NAMES, REPLICAS)

    def wait_for_all(ready: dict[str, int]) -> None:
        until(
            lambda: all_ready(cluster, APIS, ready),
            LIMIT_S,
            lambda: missing(cluster, APIS, ready),
        )

    def deploy_all() -> None:
        names = REAL_NAMES + MOCK_NAMES
        for place in range(0, APIS, PER_DEPLOY):
            project = write_project(folder / f"p{place}", names[place : place + PER_DEPLOY])
            deploy(cluster, project, wait=False)
        wait_for_all(full)

    def scale(to: int) -> None:
        for name in REAL_NAMES:
            done = cluster.operator.run("scale", name, "--replicas", str(to))
            assert done.returncode == 0, done.stderr
        wait_for_all(dict.fromkeys(REAL_NAMES, to))

    def delete_all() -> None:
        for name in cluster.operator.statuses():
            done = cluster.operator.run("delete", name, "-y")
            assert done.returncode == 0, done.stderr
        until(
            lambda: not cluster.operator.statuses() and not cluster.jobs_left(),
            LIMIT_S,
            "not all deleted",
        )

    took_s = meter.phase("deploy_all", deploy_all)
    meter.figures["per_deployed_api_s"] = took_s / APIS
    meter.figures["live"] = len(cluster.operator.statuses())
    meter.phase("quiet", lambda: time.sleep(QUIET_S))
    updates = []
    for number in range(1, UPDATES + 1):
        project = write_project(folder / "one", REAL_NAMES[:1], number)
        updates.append(meter.phase("update", lambda: deploy(cluster, project, wait=True)))  # noqa: B023
    meter.figures["update_s"] = median(updates)
    meter.phase("scale_up", lambda: scale(REPLICAS + 1))
    meter.phase("scale_down", lambda: scale(REPLICAS))
    meter.figures |= _resources(cluster)
    meter.phase("delete_all", delete_all)
    meter.figures["jobs_left"] = len(cluster.jobs_left())
    return meter.figures


def _resources(cluster: Machine) -> dict[str, Figure]:
    """Return what the scheduler and the agent hold."""
    found: dict[str, Figure] = {}
    for name, agent in (("scheduler", cluster.scheduler), ("agent", cluster.agent)):
        assert agent.process is not None
        process = psutil.Process(agent.process.pid)
        found[f"{name}_mib"] = process.memory_info().rss / 2**20
        times = process.cpu_times()
        found[f"{name}_cpu_s"] = times.user + times.system
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, machine(Path(folder) / "machine") as cluster:
        figures = measure(cluster, Path(folder) / "projects")
    finish("engines", figures, {"live": exactly(APIS), "jobs_left": exactly(0)})


if __name__ == "__main__":
    main()
