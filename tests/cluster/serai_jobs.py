"""Serai on three machines as the jobs that are shipped: Nomad runs schedulers, gateways, agents."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serai_agent.program.holding import holder
from tests.cluster.agents import program
from tests.cluster.machines import CLIENTS, GATEWAYS, NOMAD_PORT, Cluster, Machine, cluster
from tests.cluster.operating import Operator
from tests.cluster.serai_cluster import (
    ADMIN_TOKEN,
    AGENT,
    AGENT_TOKEN,
    GATEWAY_PORT,
    HAPROXIES,
    OPERATOR_PORT,
    PLATFORM,
    SCHEDULER,
    TTL_S,
)
from tests.support.examples import ROOT
from tests.support.serai import call
from tests.support.wait import until

INSTALLED = Path(sys.executable).parents[1]
CHANGE_LIMIT_S = 60.0


class SeraiJobs:
    """Serai as three jobs; each machine has its own configurations at the same paths."""

    def __init__(self, machines: Cluster, folder: Path) -> None:
        self.machines, self._folder = machines, folder
        folder.mkdir()
        (folder / "admin.token").write_text(ADMIN_TOKEN)
        (folder / "agent.token").write_text(AGENT_TOKEN)
        for machine in machines.clients:
            (machine.folder / "own" / "scheduler.toml").write_text(self._scheduler(machine))
            (machine.folder / "own" / "agent.toml").write_text(self._agent(machine))

    @property
    def gateways(self) -> list[str]:
        """Return the URLs of the gateways."""
        return [f"http://{self.machines.machines[n].address}:{GATEWAY_PORT}" for n in GATEWAYS]

    def start(self) -> None:
        """Run the jobs; return once a leader hears of all nodes, and both gateways answer."""
        self.run("scheduler", port=OPERATOR_PORT)
        self.run("gateway", port=GATEWAY_PORT)
        self.run("agent")
        until(self.is_up, CHANGE_LIMIT_S, self.logs)

    def run(self, name: str, **variables: object) -> None:
        """Run a job that is shipped, or update it, and return once Nomad says that it is done."""
        config = "scheduler.toml" if name == "scheduler" else "agent.toml"
        told = {"serai": INSTALLED, "config": self.machines.own / config, **variables}
        options = [text for key, value in told.items() for text in ("-var", f"{key}={value}")]
        address = f"http://{self.machines.servers[0].address}:{NOMAD_PORT}"
        done = subprocess.run(
            [program("nomad"), "job", "run", *options, ROOT / "jobspecs" / f"{name}.nomad.hcl"],
            env={**os.environ, "NOMAD_ADDR": address},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()

    def is_up(self) -> bool:
        """Say whether one leads, all nodes report to it, and every scheduler knows that."""
        for name in CLIENTS:
            done = self.operator(name).run("nodes", "-o", "json")
            nodes = json.loads(done.stdout)["nodes"] if done.returncode == 0 else []
            if [one["node"] for one in nodes if one["state"] == "up" and one["takes"]] != [
                *CLIENTS
            ]:
                return False
        return len(self.leaders()) == 1

    def operator(self, through: str) -> Operator:
        """Return an operator who calls the scheduler of a machine."""
        return Operator(self._url(self.machines.machines[through]), ADMIN_TOKEN)

    def leaders(self) -> list[str]:
        """Return the machines whose schedulers say that they lead."""
        return [one.name for one in self.machines.clients if self._leads(one)]

    def _leads(self, machine: Machine) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return bool(call(f"{self._url(machine)}/readyz").json()["leads"])
        return False

    def running(self, job: str) -> dict[str, str]:
        """Return the allocations of a job that run: the machine of each, and its id."""
        listed = self._nomad(f"/job/{job}/allocations")
        return {one["NodeName"]: one["ID"] for one in listed if one["ClientStatus"] == "running"}

    def stop_allocation(self, allocation: str) -> None:
        """Let Nomad end an allocation, which it places anew, as `nomad alloc stop` does."""
        self._nomad(f"/allocation/{allocation}/stop", "POST")

    def agents(self) -> dict[str, int | None]:
        """Return the process of each machine's agent."""
        return {one.name: holder(one.folder / "own" / "agent") for one in self.machines.clients}

    def haproxies(self) -> dict[str, str]:
        """Return the process of each gateway's HAProxy."""
        files = {name: self._own(name) / "agent" / "gateway" / "haproxy.pid" for name in GATEWAYS}
        return {name: file.read_text() for name, file in files.items()}

    def logs(self) -> str:
        """Return the end of what every task has said."""
        said = []
        for machine in self.machines.clients:
            for file in sorted(
                (machine.folder / "nomad" / "data" / "alloc").glob("*/alloc/logs/*")
            ):
                if file.is_file():
                    said.append(f"{machine.name} {file.name}: {file.read_text()[-1500:]}")
        return "\n".join(said)

    def _own(self, name: str) -> Path:
        return self.machines.machines[name].folder / "own"

    def _nomad(self, path: str, method: str = "GET") -> Any:
        return self.machines.servers[0].call(NOMAD_PORT, path, method)

    def _url(self, machine: Machine) -> str:
        return f"http://{machine.address}:{OPERATOR_PORT}"

    def _scheduler(self, machine: Machine) -> str:
        return SCHEDULER.format(
            folder=self._folder,
            own=machine.own,
            advertise=self._url(machine),
            address=machine.address,
            gateway=self.machines.machines[GATEWAYS[0]].address,
            peers=json.dumps([self._url(one) for one in self.machines.clients]),
            platform=PLATFORM,
            ttl_s=TTL_S,
            consul_port=8500,
            nomad_port=NOMAD_PORT,
        )

    def _agent(self, machine: Machine) -> str:
        roles = ["replicas", "gateway"] if machine.name in GATEWAYS else ["replicas"]
        text = AGENT.format(
            folder=self._folder,
            own=machine.own,
            name=machine.name,
            address=machine.address,
            roles=json.dumps(roles),
            haproxy=HAPROXIES.get(machine.name, ""),
        )
        return text + "start = false\n"  # of [gateway]


@contextmanager
def serai_jobs(folder: Path) -> Iterator[SeraiJobs]:
    """Run Serai as jobs on six machines for as long as the block lasts."""
    with cluster(folder / "machines") as machines:
        made = SeraiJobs(machines, folder / "serai")
        made.start()
        yield made
