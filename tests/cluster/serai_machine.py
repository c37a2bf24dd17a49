"""Serai on one machine with everything real: Consul, Nomad, dockerd, scheduler, agent, gateway."""

import json
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import docker
import psutil

from tests.cluster.agents import Agent
from tests.cluster.nomad import NomadAgent, nomad, own
from tests.cluster.operating import Operator
from tests.cluster.serai_agents import SeraiAgent
from tests.support.dockerd import dockerd
from tests.support.http_program import MOUNTED
from tests.support.ports import free_port
from tests.support.rewriting_proxy import RewritingProxy, rewriting_proxy
from tests.support.schedulers import ADMIN, AGENT, LEASE, address_in, write_config
from tests.support.wait import until

SCHEDULER = str(Path(sys.executable).parent / "serai-scheduler")
READY_LIMIT_S = 30.0
DISK_MIB, FILES = 1000, 10_000
READY_S = 25.0
"""How long a new version may take here until it is given up."""
DOCKER = """
plugin "docker" {{
  config {{
    endpoint = "{address}"
    volumes {{ enabled = true }}
    {more}
  }}
}}
"""
SETTINGS = """
[nomad]
port = {nomad}
[jobs]
cache_dir = "{cache}"
default_memory_mib = 64
disk_mib = 10
log_file_mib = 1
log_files = 1
restarts = 1
restart_delay_s = 0.2
leave_s = 0.5
image_pull_limit_s = 4
[updates]
ready_s = {ready_s}
stuck_s = 3.0
[listen]
port = {port}
"""


class SeraiMachine:
    """The programs of one machine; what Nomad keeps for replicas has a small disk of its own.

    The scheduler calls Nomad through the proxy `between`, which can change what it says.
    """

    def __init__(
        self,
        folder: Path,
        nomad: NomadAgent,
        between: RewritingProxy,
        docker_address: str,
        ready_s: float,
    ) -> None:
        self.nomad, self.between, self.docker_address = nomad, between, docker_address
        self.allocations = allocations(folder)
        # Called as Nomad calls the node.
        self.agent = SeraiAgent(
            folder / socket.gethostname(), nomad.beside.port, ("replicas", "gateway"), token=AGENT
        )
        config = write_config(
            folder / "scheduler",
            nomad.beside.port,
            "serai/",
            LEASE
            + SETTINGS.format(
                nomad=between.port,
                cache=self.agent.data / "cache",
                ready_s=ready_s,
                port=free_port(),
            ),
            gateway_url=json.dumps(self.agent.url),
            mount_roots=json.dumps(MOUNTED),
        )
        self.scheduler = Agent(folder / "scheduler", [SCHEDULER, "--config", str(config)])
        self.operator = Operator(address_in(config), ADMIN)

    def start(self) -> None:
        """Start Serai; return once it would take a deploy and requests."""
        self.scheduler.start()
        self.agent.start()
        until(self._ready, READY_LIMIT_S, f"not ready: {self.scheduler.log()}{self.agent.log()}")

    def stop(self) -> None:
        self.agent.stop()
        self.scheduler.kill()

    def _ready(self) -> bool:
        return self.operator.has_a_node() and self.agent.ready()

    def statuses(self) -> dict[str, dict[str, Any]]:
        """Return what the scheduler says of each API."""
        return self.operator.statuses()

    # What there is of a version ------------------------------------------------------------------

    def left_of(self, api: str, version: str) -> list[str]:
        """Return in words what any program still has of a version; nothing once it is gone."""
        job = f"serai-{api}--{version}"
        alive = ("pending", "running")
        allocations = [a for a in self.nomad.call("GET", "/allocations") if a["JobID"] == job]
        found = [f"allocation {a['ID']}" for a in allocations if a["ClientStatus"] in alive]
        jobs = self.nomad.call("GET", f"/jobs?prefix={job}")
        found += [f"job {one['ID']} {one['Status']}" for one in jobs if one["Status"] != "dead"]
        listed = self.nomad.consul(f"/catalog/service/serai-api-{api}")
        found += [
            f"service {one['ServiceID']}"
            for one in listed
            if one["ServiceMeta"]["version"] == version
        ]
        found += [f"container {name}" for name in self._containers(version)]
        found += [f"server {one}" for one in self._servers() if one.startswith(f"{api}.{version}.")]
        return found + _processes({one["ID"] for one in allocations})

    def _containers(self, version: str) -> list[str]:
        with closing(docker.DockerClient(base_url=self.docker_address)) as client:
            listed = client.containers.list(all=True, filters={"label": f"serai.version={version}"})
            return [str(one.name) for one in listed]

    def _servers(self) -> list[str]:
        (node,) = self.operator.json("nodes")["nodes"]
        servers: list[dict[str, Any]] = node["report"]["gateway"]["servers"]
        return [one["server"] for one in servers]


def _processes(allocations: Collection[str]) -> list[str]:
    found = []
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("NOMAD_ALLOC_ID") in allocations:
            found.append(f"process {process.pid}")
    return found


def allocations(folder: Path) -> Path:
    """Return the folder that a machine's Nomad has for replicas."""
    return folder / "nomad" / "data" / "alloc"


@contextmanager
def serai_machine(
    folder: Path,
    docker: str = "",
    tasks: tuple[int, int] | None = None,
    ready_s: float = READY_S,
) -> Iterator[SeraiMachine]:
    """Run it for as long as the block lasts; `docker` is more of the driver's configuration.

    `tasks` are the first and the last port that Nomad gives to its tasks. A version that is not
    ready within `ready_s` is given up.
    """
    (folder / "docker").mkdir(parents=True)
    allocations(folder).mkdir(parents=True)
    own(folder / "nomad")
    # Unmounted with what replicas leave mounted in it.
    disk = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,nr_inodes={FILES}", "none"]
    subprocess.run([*disk, str(allocations(folder))], check=True)
    with ExitStack() as stack:
        address = stack.enter_context(dockerd(folder / "docker"))
        driver = DOCKER.format(address=address, more=docker)
        beside = stack.enter_context(nomad(folder, driver, tasks=tasks))
        between = stack.enter_context(rewriting_proxy(beside.port))
        made = SeraiMachine(folder, beside, between, address, ready_s)
        stack.callback(made.stop)
        made.start()
        yield made
