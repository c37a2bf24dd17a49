"""A real Nomad on free ports, server and client in one, beside a Consul; nothing of it is left."""

import contextlib
import json
import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil

from serai.consul.services import listed
from serai.model import Server
from tests.cluster.agents import START_LIMIT_S, Agent, ConsulAgent, consul, program
from tests.support.certificates import Tls
from tests.support.ports import free_port, task_ports
from tests.support.wait import until

CHANGE_LIMIT_S = 30.0
_OWNER = "owner"
"""The file that holds the process id of the test run whose agent this is."""
ALLOCATIONS = "/data/alloc/"
"""Where an agent's folder has those of its tasks."""
MHZ = 8000
HELPERS = ("executor", "logmon", "docker_logger")
"""How a Nomad calls its own program to look after a task; they outlive it."""

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
  min_dynamic_port = {first}
  max_dynamic_port = {last}
  {client}
}}
{consul}
plugin "raw_exec" {{ config {{ enabled = true }} }}
{more}
"""


TLS = """
tls {{
  http = true
  rpc = true
  ca_file = "{ca}"
  cert_file = "{certificate}"
  key_file = "{key}"
  verify_server_hostname = true
  verify_https_client = true
}}
consul {{
  address = "127.0.0.1:{port}"
  ssl = true
  ca_file = "{ca}"
  cert_file = "{certificate}"
  key_file = "{key}"
}}
"""
NAMES = "DNS:server.global.nomad,DNS:client.global.nomad,IP:127.0.0.1"
"""What the certificate of a Nomad with TLS has to be for, as openssl writes it."""


class NomadAgent(Agent):
    """A Nomad alone, with raw_exec; where the Consul beside it has TLS, it has the same.

    `more` is for the end of its configuration, `client` for the part that is its client's. With a
    `token`, which is a UUID, nothing is allowed without it. Its tasks get ports from the first to
    the last of `tasks`.
    """

    def __init__(
        self,
        folder: Path,
        beside: ConsulAgent,
        more: str = "",
        client: str = "",
        token: str = "",
        tasks: tuple[int, int] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.beside, self._token = free_port(), beside, token
        self._tls = _context(beside.tls) if beside.tls else None
        if token:
            more += "\nacl { enabled = true }\n"
        first, last = tasks or task_ports()
        ports = {"http": self.port, "rpc": free_port(), "serf": free_port()}
        text = CONFIGURATION.format(
            folder=folder,
            mhz=MHZ,
            more=more,
            client=client,
            consul=_beside(beside),
            groups=self._groups,
            first=first,
            last=last,
            **ports,
        )
        (folder / "nomad.hcl").write_text(text)
        own(folder)
        super().__init__(folder, [program("nomad"), "agent", "-config", str(folder / "nomad.hcl")])

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def _groups(self) -> str:
        return f"serai-{self.port}"

    def start(self) -> None:
        super().start()
        if self._token:
            until(self._guarded, START_LIMIT_S, f"Nomad takes no token: {self.log()}")
        until(self.ready, START_LIMIT_S, f"Nomad is not ready: {self.log()}")

    def _guarded(self) -> bool:
        """Give it the token that may do everything; say whether it has taken it."""
        try:
            self.call("POST", "/acl/bootstrap", {"BootstrapSecret": self._token})
        except HTTPError as refused:
            return refused.code == HTTPStatus.BAD_REQUEST  # it has had it since an earlier start
        except OSError:
            return False
        return True

    def stop(self) -> None:
        super().stop()
        end_tasks(self.folder)
        end_groups(self._groups)

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
        url = f"{self.url}/v1{path}"
        return _call(url, method, body, self._token, self._tls)

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
def nomad(
    folder: Path,
    more: str = "",
    client: str = "",
    token: str = "",
    tls: Tls | None = None,
    tasks: tuple[int, int] | None = None,
) -> Iterator[NomadAgent]:
    """Run a Nomad, and a Consul before it: it looks for one when it starts, then rarely."""
    end_tasks_of_dead_runs()
    with consul(folder / "consul", tls=tls) as beside:
        agent = NomadAgent(folder / "nomad", beside, more, client, token, tasks)
        try:
            agent.start()
            yield agent
        finally:
            agent.stop()


def own(folder: Path) -> None:
    """Note that an agent's folder is of this test run, before anything in it outlives the run."""
    (folder / _OWNER).write_text(str(os.getpid()))


def end_tasks(folder: Path) -> None:
    """End what outlives an agent by design: its tasks, and the mounts of their folders."""
    helpers = [one for one, home in _helpers() if home == folder]
    for helper in helpers:
        with contextlib.suppress(psutil.Error):
            for one in (*helper.children(recursive=True), helper):
                one.kill()
    psutil.wait_procs(helpers, timeout=CHANGE_LIMIT_S)
    for point in reversed([point for point in _mounts() if point.startswith(f"{folder}/data/")]):
        # Lazily: the log of a container may still be open, and a folder that stays mounted would
        # stand in the way of whoever clears up after the run.
        subprocess.run(["umount", "--lazy", point], check=False)


def _mounts() -> list[str]:
    return [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]


def end_groups(name: str) -> None:
    """Remove the control groups that a Nomad leaves; there is no process in them any more.

    Those of other Nomads come and go meanwhile, which `glob` would not bear.
    """
    roots = [
        Path(parent, name) for parent, folders, _ in os.walk("/sys/fs/cgroup") if name in folders
    ]
    for root in roots:
        for parent, _, _ in os.walk(root, topdown=False):
            os.rmdir(parent)


def end_tasks_of_dead_runs() -> None:
    """End what a test run left that was killed itself: the kernel ended its agents only."""
    points = [f"{point}/" for point in _mounts()]
    mounted = {Path(one.partition(ALLOCATIONS)[0]) for one in points if ALLOCATIONS in one}
    for folder in {home for _, home in _helpers()} | mounted:
        if not _is_owned(folder):
            end_tasks(folder)


def _is_owned(folder: Path) -> bool:
    """Say whether the test run that an agent's folder is of still lives.

    A folder without its owner's file is one that something began to clear up.
    """
    try:
        return psutil.pid_exists(int((folder / _OWNER).read_text()))
    except (OSError, ValueError):
        return False


def _helpers() -> Iterator[tuple[psutil.Process, Path]]:
    """Yield the executors and log collectors of Nomads, each with the folder of its agent."""
    for process in psutil.process_iter():
        if (found := helped(process)) is not None:
            yield process, found[0]


def helped(process: psutil.Process) -> tuple[Path, str] | None:
    """Return whose executor or log collector it is: the agent's folder and the allocation."""
    with contextlib.suppress(psutil.Error, OSError):
        command = process.cmdline() if process.name() == "nomad" else []
        if command[1:2] and command[1] in HELPERS:  # one that ends at this moment has none
            for path in _open_paths(process.pid):
                home, found, inside = path.partition(ALLOCATIONS)
                if found:
                    return Path(home), inside.partition("/")[0]
    return None


def _open_paths(pid: int) -> Iterator[str]:
    """Yield what a process has open: a docker_logger has FIFOs alone, which psutil leaves out."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            yield str(link.readlink())


def _beside(consul: ConsulAgent) -> str:
    if consul.tls is None:
        return f'consul {{ address = "127.0.0.1:{consul.port}" }}'
    return TLS.format(port=consul.https, **asdict(consul.tls))


def _context(tls: Tls) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=tls.ca)
    made.load_cert_chain(tls.certificate, tls.key)
    return made


def _call(
    url: str, method: str, body: object, token: str = "", tls: ssl.SSLContext | None = None
) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"X-Nomad-Token": token} if token else {}
    try:
        with urlopen(Request(url, data, headers, method=method), timeout=10, context=tls) as answer:
            text = answer.read()
    except HTTPError as error:
        error.add_note(error.read().decode(errors="replace"))
        raise
    return json.loads(text) if text.strip() else None
