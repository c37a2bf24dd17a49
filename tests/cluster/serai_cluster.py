"""Serai on six machines: schedulers on the servers, agents on the clients, gateways on two."""

import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from serai_agent.edge.answers import parse_info
from serai_agent.edge.config import STATS_SOCKET
from serai_agent.edge.socket import ask
from serai_agent.program.node import CACHE, EDGE
from serai_scheduler.nomad.settings import JobSettings
from tests.cluster.agents import Agent
from tests.cluster.machines import CONSUL_PORT, GATEWAYS, NOMAD_PORT, Cluster, Machine, cluster
from tests.cluster.operating import DEPLOY_LIMIT_S, Operator
from tests.support.gateways import PROGRAMS
from tests.support.serai import Answer, call
from tests.support.wait import until

BIN = Path(sys.executable).parent
OPERATOR_PORT, GATEWAY_PORT, PROXY_PORT = 7070, 8080, 3128
ADMIN_TOKEN, AGENT_TOKEN = "admin-token-of-the-tests", "agent-token-of-the-tests"
TTL_S = 2.0
READY_LIMIT_S = 60.0
PLATFORM = "-".join((platform.system(), platform.machine(), *platform.libc_ver())).lower()
"""As the agents name that of their nodes."""

HAPROXIES = dict(zip(GATEWAYS, PROGRAMS.values(), strict=True))
"""Each gateway has a HAProxy of its own version: Debian's and the wheel's."""
SCHEDULER = """
data_dir = "{own}/scheduler"
gateway_url = "http://{gateway}:8080"
advertise = "{advertise}"
peers = {peers}
insecure = true
[listen]
host = "{address}"
[tokens]
admin = "{folder}/admin.token"
agent = "{folder}/agent.token"
[consul]
port = {consul_port}
[nomad]
port = {nomad_port}
[jobs]
cache_dir = "{own}/agent/cache"
platform = "{platform}"
default_memory_mib = 64
leave_s = 1.0
restart_delay_s = 0.2
[lease]
ttl_s = {ttl_s}
margin_s = 0.5
lock_delay_s = 0.1
"""
AGENT = """
node = "{name}"
roles = {roles}
data_dir = "{own}/agent"
insecure = true
[nomad]
address = "http://{address}:4646"
[scheduler]
token_file = "{folder}/agent.token"
[gateway]
host = "{address}"
program = "{haproxy}"
check_period_s = 0.2
notice_s = 1.0
drain_limit_s = 20
"""


class SeraiCluster:
    """The programs of Serai on the machines of a cluster, driven through the real command line."""

    def __init__(self, machines: Cluster, folder: Path) -> None:
        self.machines, self._folder = machines, folder
        folder.mkdir()
        self.proxy = self._proxy()
        (folder / "admin.token").write_text(ADMIN_TOKEN)
        (folder / "agent.token").write_text(AGENT_TOKEN)
        self.schedulers = {one.name: self._scheduler(one) for one in machines.servers}
        self.agents = {one.name: self._agent(one) for one in machines.clients}

    @property
    def gateways(self) -> list[str]:
        """Return the URLs of the gateways."""
        return [f"http://{self.machines.machines[n].address}:{GATEWAY_PORT}" for n in GATEWAYS]

    def start(self) -> None:
        """Start all programs; return once a leader hears of all nodes."""
        for program in (self.proxy, *self.schedulers.values(), *self.agents.values()):
            program.start()
        until(self._ready, READY_LIMIT_S, f"Serai is not ready: {self.logs()}")

    def stop(self) -> None:
        """End the way out; all that runs in the machines ends with their network."""
        self.proxy.stop()

    def restart_schedulers(
        self, consul_port: int = CONSUL_PORT, nomad_port: int = NOMAD_PORT
    ) -> None:
        """Let the schedulers call these ports of their machines from now on: the leader last."""
        first = self.leader()
        for machine in sorted(self.machines.servers, key=lambda one: one.name == first):
            scheduler = self.schedulers[machine.name]
            scheduler.kill()
            self._configure(machine, consul_port, nomad_port)
            scheduler.start()
            url = f"http://{machine.address}:{OPERATOR_PORT}/healthz"
            until(lambda at=url: _is_healthy(at), READY_LIMIT_S)  # type: ignore[misc]
        until(lambda: self.leader() != "", READY_LIMIT_S)

    @property
    def jobs(self) -> JobSettings:
        """Return what the schedulers make jobs with."""
        return JobSettings(cache_dir=f"{self.machines.own}/agent/{CACHE}", platform=PLATFORM)

    def logs(self) -> str:
        """Return the end of what every program has said."""
        programs = {**self.schedulers, **self.agents}
        return "\n".join(f"{name}: {one.log()}" for name, one in programs.items())

    def leader(self) -> str:
        """Return the machine whose scheduler leads, "" while none does."""
        for machine in self.machines.servers:
            try:
                (entry,) = machine.call(CONSUL_PORT, "/kv/serai/leader")
            except (OSError, ValueError):
                continue
            if not entry.get("Session"):
                return ""
            found = machine.call(CONSUL_PORT, f"/session/info/{entry['Session']}")
            name = found[0]["Name"] if found else ""  # it may have ended meanwhile
            return next((one.name for one in self.machines.servers if one.address in name), "")
        return ""

    def gateway_of(self, name: str) -> str:
        """Return the URL of a machine's gateway."""
        return self.gateways[GATEWAYS.index(name)]

    def epoch(self) -> int:
        """Return the newest leader's number, which is the first that it writes; 0 while unknown."""
        for machine in self.machines.servers:
            try:
                (entry,) = machine.call(CONSUL_PORT, "/kv/serai/leader")
                return int(json.loads(b64decode(entry["Value"]))["epoch"])
            except (OSError, ValueError, TypeError):
                continue
        return 0

    def run(
        self, *arguments: str, through: str = "server1", timeout_s: float = DEPLOY_LIMIT_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command of the CLI against the scheduler of a machine."""
        return self._operator(through).run(*arguments, timeout_s=timeout_s)

    def _operator(self, through: str) -> Operator:
        return Operator(self._operator_url(self.machines.machines[through]), ADMIN_TOKEN)

    def ask(self, machine: str, path: str) -> Answer:
        """Read from a machine's scheduler itself, sooner than a command would."""
        url = self._operator_url(self.machines.machines[machine])
        return call(url + path, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})

    def deploy(self, project: Path, through: str = "server1") -> str:
        """Deploy a folder, wait for its end, and insist on success."""
        done = self.run("deploy", str(project), "--wait", "-y", through=through)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.logs()}"
        return done.stdout

    def json(self, *arguments: str, through: str = "server1") -> Any:
        """Return what a command prints as JSON."""
        return self._operator(through).json(*arguments)

    def replicas_on(self, api: str, node: str) -> list[str]:
        """Return the replicas of an API that live on a node."""
        described = self.json("describe", api)
        replicas = [one["replica"] for one in described["replicas"]]
        ended = ("stopped", "failed", "lost")
        return [r["id"] for r in replicas if r["node"] == node and r["state"] not in ended]

    def serves(self, api: str, count: int, through: str = "server1") -> bool:
        """Say whether as many replicas of an API are ready, nothing else of it lives, and every
        gateway takes requests."""
        if not all(_is_healthy(f"{gateway}/_serai/healthz") for gateway in self.gateways):
            return False
        done = self.run("describe", api, "-o", "json", through=through)
        if done.returncode:
            return False
        described = json.loads(done.stdout)
        states = [one["replica"]["state"] for one in described["replicas"]]
        alive = [one for one in states if one not in ("stopped", "failed", "lost")]
        return described["status"]["state"] == "live" and alive == ["ready"] * count

    def is_up(self, node: str) -> bool:
        """Say whether a node's reports reach the leader."""
        done = self.run("nodes", "-o", "json")
        nodes = json.loads(done.stdout)["nodes"] if done.returncode == 0 else []
        return any(one["node"] == node and one["state"] == "up" for one in nodes)

    def drain_gateway(self, name: str) -> None:
        """Let a gateway leave as an operator does; return when it has."""
        command = [*self.agents[name].command, "--drain"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        agent = self.agents[name].process
        assert agent is not None
        agent.wait(10)

    def kill_replica(self, api: str) -> None:
        """Kill the processes of one replica, as a crash does."""
        (name, *_) = sorted(self._replica_processes(api))
        for process in self._replica_processes(api)[name]:
            process.kill()

    def _replica_processes(self, api: str) -> dict[str, list[psutil.Process]]:
        found: dict[str, list[psutil.Process]] = {}
        for process in psutil.process_iter(["environ", "cmdline"]):
            replica = (process.info["environ"] or {}).get("SERAI_REPLICA", "")
            if replica.startswith(f"{api}.") and "serai_runtime" in (process.info["cmdline"] or ()):
                found.setdefault(replica, []).append(process)
        return found

    def agent_folder(self, name: str) -> Path:
        """Return the data folder of a machine's agent, as this process sees it."""
        return self.machines.machines[name].folder / "own" / "agent"

    def haproxy(self, name: str) -> int:
        """Return the process id of a gateway's HAProxy."""
        return int((self.agent_folder(name) / EDGE / "haproxy.pid").read_text())

    def haproxy_version(self, name: str) -> str:
        """Return the version that a gateway's HAProxy tells of itself."""
        told = asyncio.run(ask(self.agent_folder(name) / EDGE / STATS_SOCKET, "show info"))
        return parse_info(told)["Version"]

    def kill_gateway(self, name: str) -> None:
        """Kill a HAProxy with all of its workers."""
        os.killpg(self.haproxy(name), signal.SIGKILL)

    def _ready(self) -> bool:
        done = self.run("nodes", "-o", "json")
        if done.returncode:
            return False
        nodes = json.loads(done.stdout)["nodes"]
        up = [one for one in nodes if one["state"] == "up" and one["takes"]]
        return len(up) == len(self.agents)

    def _proxy(self) -> Agent:
        """Return the only way out of the machines' network, for package indexes."""
        folder = self._folder / "proxy"
        folder.mkdir()
        module = "tests.support.connect_proxy"
        return Agent(folder, [sys.executable, "-m", module, self.machines.here, str(PROXY_PORT)])

    def blobs_of(self, server: str) -> Path:
        """Return the folder with the blobs that a machine's scheduler holds."""
        return self.machines.machines[server].folder / "own" / "scheduler" / "blobs"

    def _operator_url(self, machine: Machine) -> str:
        return f"http://{machine.address}:{OPERATOR_PORT}"

    def _scheduler(self, machine: Machine) -> Agent:
        (machine.folder / "scheduler").mkdir()
        file = self._configure(machine, CONSUL_PORT, NOMAD_PORT)
        return machine.add("scheduler", [str(BIN / "serai-scheduler"), "--config", str(file)])

    def _configure(self, machine: Machine, consul_port: int, nomad_port: int) -> Path:
        file = machine.folder / "scheduler" / "scheduler.toml"
        file.write_text(
            SCHEDULER.format(
                folder=self._folder,
                own=machine.own,
                advertise=self._operator_url(machine),
                address=machine.address,
                gateway=self.machines.machines[GATEWAYS[0]].address,
                peers=json.dumps([self._operator_url(one) for one in self.machines.servers]),
                platform=PLATFORM,
                ttl_s=TTL_S,
                consul_port=consul_port,
                nomad_port=nomad_port,
            )
        )
        return file

    def _agent(self, machine: Machine) -> Agent:
        folder = machine.folder / "agent"
        folder.mkdir()
        roles = ["replicas", "gateway"] if machine.name in GATEWAYS else ["replicas"]
        (folder / "agent.toml").write_text(
            AGENT.format(
                folder=self._folder,
                own=machine.own,
                name=machine.name,
                address=machine.address,
                roles=json.dumps(roles),
                haproxy=HAPROXIES.get(machine.name, ""),
            )
        )
        way_out = f"HTTPS_PROXY=http://{self.machines.here}:{PROXY_PORT}"
        program = [str(BIN / "serai-agent"), "--config", str(folder / "agent.toml")]
        return machine.add("agent", ["env", way_out, *program])


def _is_healthy(url: str) -> bool:
    try:
        return call(url).status == 200
    except OSError:
        return False


@contextmanager
def serai_cluster(folder: Path) -> Iterator[SeraiCluster]:
    """Run Serai on six machines for as long as the block lasts."""
    with cluster(folder / "machines") as machines:
        made = SeraiCluster(machines, folder / "serai")
        try:
            made.start()
            yield made
        finally:
            made.stop()
