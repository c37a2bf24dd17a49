"""A real Nomad on free ports, server and client in one, beside a Consul; nothing of it is left."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil

from serai.consul.services import listed
from serai.model import Server
from tests.cluster.agents import START_LIMIT_S, Agent, ConsulAgent, consul, program
from tests.support.ports import free_port
from tests.support.wait import until

CHANGE_LIMIT_S = 30.0
OWNER = "owner"
"""The file that holds the process id of the test run whose agent this is."""
MHZ = 8000

CONFIGURATION = """
data_dir = "{folder}/data"
bind_addr = "127.0.0.1"
disable_update_check = true
ports {{
  http = {http}
  rpc = {rpc}
  serf = {serf}
}}
advertise {{
  http = "127.0.0.1"
  rpc = "127.0.0.1"
  serf = "127.0.0.1"
}}
server {{
  enabled = true
  bootstrap_expect = 1
}}
client {{
  enabled = true
  network_interface = "lo"
  cpu_total_compute = {mhz}
  cgroup_parent = "{groups}"
  max_kill_timeout = "1h"
}}
consul {{ address = "127.0.0.1:{consul}" }}
plugin "raw_exec" {{ config {{ enabled = true }} }}
{more}
"""


class NomadAgent(Agent):
    """A Nomad alone, with raw_exec; `more` is for the end of its configuration."""

    def __init__(self, folder: Path, beside: ConsulAgent, more: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.beside = free_port(), beside
        ports = {"http": self.port, "rpc": free_port(), "serf": free_port()}
        text = CONFIGURATION.format(
            folder=folder, mhz=MHZ, more=more, consul=beside.port, groups=self._groups, **ports
        )
        (folder / "nomad.hcl").write_text(text)
        (folder / OWNER).write_text(str(os.getpid()))
        super().__init__(folder, [program("nomad"), "agent", "-config", str(folder / "nomad.hcl")])

    @property
    def _groups(self) -> str:
        return f"serai-{self.port}"

    def start(self) -> None:
        super().start()
        until(self.ready, START_LIMIT_S, f"Nomad is not ready: {self.log()}")

    def stop(self) -> None:
        super().stop()
        end_tasks(self.folder)
        # Nomad leaves its control groups, in which there is no process any more.
        for root in Path("/sys/fs/cgroup").glob(f"**/{self._groups}"):
            for parent, _, _ in os.walk(root, topdown=False):
                os.rmdir(parent)

    def ready(self) -> bool:
        """Say whether it leads, its node can run tasks, and that node has seen Consul."""
        assert self.process is not None and self.process.poll() is None, self.log()
        try:
            nodes = self.call("GET", "/nodes")
            if not nodes or nodes[0]["Status"] != "ready":
                return False
            node = self.call("GET", f"/node/{nodes[0]['ID']}")
        except (OSError, ValueError):
            return False
        return "consul.version" in node["Attributes"]

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call it; a refusal is an HTTPError with its text."""
        return _call(f"http://127.0.0.1:{self.port}/v1{path}", method, body)

    def consul(self, path: str) -> Any:
        return _call(f"http://127.0.0.1:{self.beside.port}/v1{path}", "GET", None)

    def nomad_job(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `nomad job …` as an operator does."""
        return subprocess.run(
            [program("nomad"), "job", *arguments],
            env={**os.environ, "NOMAD_ADDR": f"http://127.0.0.1:{self.port}"},
            capture_output=True,
            text=True,
            check=False,
        )

    def register(self, job: dict[str, Any], index: int = 0) -> None:
        """Register a job as Nomad holds it under `index`; 0 means that there is none yet."""
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": index}
        self.call("POST", "/jobs", body)

    def allocations(self, job: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", f"/job/{job}/allocations?all=true")
        return found

    def running(self, job: str) -> list[dict[str, Any]]:
        return [one for one in self.allocations(job) if one["ClientStatus"] == "running"]

    def passing(self, api: str) -> list[dict[str, Any]]:
        """Return the passing services of an API, in the order of their ports."""
        found = self.consul(f"/health/service/serai-api-{api}?passing=true")
        return sorted((one["Service"] for one in found), key=lambda one: int(one["Port"]))

    def exactly(self, count: int, find: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return what is found once there are as many."""
        until(lambda: len(find()) == count, CHANGE_LIMIT_S, f"never {count}")
        return find()

    def servers(self, api: str) -> tuple[Server, ...]:
        """Return the passing servers of an API as the registry reads them; all must be readable."""
        found = listed(api, self.consul(f"/health/service/serai-api-{api}?passing=true"))
        assert not found.faults
        return found.servers

    def said(self, allocation: str, task: str, kind: str = "stderr") -> str:
        path = f"/v1/client/fs/logs/{allocation}?task={task}&type={kind}&plain=true"
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return str(answer.read(), errors="replace")
        except HTTPError:
            return ""  # the task has not begun

    def purge(self, job: str) -> None:
        """Stop a job and wait until nothing of it is left, not even its folders."""
        folders = [self.folder / "data" / "alloc" / one["ID"] for one in self.allocations(job)]
        self.call("DELETE", f"/job/{job}?purge=true")
        until(lambda: not self.running(job), CHANGE_LIMIT_S)
        until(lambda: self._collected(folders), CHANGE_LIMIT_S)

    def _collected(self, folders: list[Path]) -> bool:
        self.call("PUT", "/system/gc")
        return not any(folder.exists() for folder in folders)


@contextmanager
def nomad(folder: Path, more: str = "") -> Iterator[NomadAgent]:
    """Run a Nomad, and a Consul before it: it looks for one when it starts, then rarely."""
    end_tasks_of_dead_runs()
    with consul(folder / "consul") as beside:
        agent = NomadAgent(folder / "nomad", beside, more)
        try:
            agent.start()
            yield agent
        finally:
            agent.stop()


def end_tasks(folder: Path) -> None:
    """End what outlives an agent by design: its tasks, and the mounts of their folders."""
    helpers = [one for one, home in _helpers() if home == folder]
    for helper in helpers:
        with contextlib.suppress(psutil.Error):
            for one in (*helper.children(recursive=True), helper):
                one.kill()
    psutil.wait_procs(helpers, timeout=CHANGE_LIMIT_S)
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in reversed([point for point in points if point.startswith(f"{folder}/data/")]):
        subprocess.run(["umount", point], check=False)


def end_tasks_of_dead_runs() -> None:
    """End what a test run left that was killed itself: the kernel ended its agents only."""
    for folder in {home for _, home in _helpers()}:
        with contextlib.suppress(OSError, ValueError):
            if not psutil.pid_exists(int((folder / OWNER).read_text())):
                end_tasks(folder)


def _helpers() -> Iterator[tuple[psutil.Process, Path]]:
    """Yield the executors and log collectors of Nomads, each with the folder of its agent."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == "nomad" and process.cmdline()[1] in ("executor", "logmon"):
                for file in process.open_files():
                    home, found, _ = file.path.partition("/data/alloc/")
                    if found:
                        yield process, Path(home)
                        break


def _call(url: str, method: str, body: object) -> Any:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data=data, method=method), timeout=10) as answer:
            text = answer.read()
    except HTTPError as error:
        error.add_note(error.read().decode(errors="replace"))
        raise
    return json.loads(text) if text.strip() else None
