"""Six machines with the real engines: three with servers, three that run replicas.

Each has an address, data and processes of its own, so that a machine, one of its programs or its
link can fail alone.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.cluster.agents import Agent, program
from tests.cluster.network import Host, Network, network
from tests.cluster.nomad import MHZ, end_groups, end_tasks, end_tasks_of_dead_runs, own
from tests.support.wait import until

SERVERS = ("server1", "server2", "server3")
CLIENTS = ("client1", "client2", "client3")
GATEWAYS = ("client1", "client2")
CONSUL_PORT, CONSUL_DNS_PORT, NOMAD_PORT = 8500, 8600, 4646
READY_LIMIT_S = 60.0

NOMAD_COMMON = """
data_dir = "{folder}/data"
name = "{name}"
bind_addr = "0.0.0.0"
disable_update_check = true
leave_on_terminate = false
advertise {{
  http = "{address}"
  rpc = "{address}"
  serf = "{address}"
}}
consul {{
  address = "127.0.0.1:8500"
  server_auto_join = false
  client_auto_join = false
}}
"""
NOMAD_SERVER = """
server {{
  enabled = true
  bootstrap_expect = {count}
  raft_multiplier = 1
  heartbeat_grace = "2s"
  min_heartbeat_ttl = "2s"
  server_join {{
    retry_join = {servers}
    retry_interval = "1s"
  }}
}}
"""
NOMAD_CLIENT = """
client {{
  enabled = true
  network_interface = "eth0"
  cpu_total_compute = {mhz}
  cgroup_parent = "{groups}"
  max_kill_timeout = "1h"
  servers = {servers}
  meta = {{ "serai_gateway" = "{gateway}" }}
}}
plugin "raw_exec" {{ config {{ enabled = true }} }}
"""


class Machine:
    """One machine of the cluster; `consul` and `nomad` are its processes of these programs.

    `own` is a path that is a folder of its own on each machine, as /var/lib is; only the processes
    of the machine see it so.
    """

    def __init__(
        self, host: Host, folder: Path, own: Path, servers: Sequence[str], serves: bool
    ) -> None:
        self.host, self.folder, self.own, self.serves = host, folder, own, serves
        (folder / "own").mkdir(parents=True)
        self.name, self.address = host.name, host.address
        self._groups = f"serai-{host.namespace}"
        self.consul = host.agent(folder / "consul", self._consul_command(servers))
        self.nomad = host.agent(folder / "nomad", self._seen(self._nomad_command(servers)))
        self.agents: dict[str, Agent] = {"consul": self.consul, "nomad": self.nomad}

    def add(self, name: str, command: Sequence[str]) -> Agent:
        """Return another process of this machine, not yet started."""
        self.agents[name] = self.host.agent(self.folder / name, self._seen(command))
        return self.agents[name]

    def _seen(self, command: Sequence[str]) -> list[str]:
        """Return a command that sees the machine's own folder at its path."""
        mounted = 'mount --bind "$0" "$1" && shift && exec "$@"'
        unshared = ("unshare", "--mount", "--propagation", "private")
        return [*unshared, "sh", "-c", mounted, str(self.folder / "own"), str(self.own), *command]

    def stop(self) -> None:
        """End its processes, then what Nomad's client leaves running by design."""
        for agent in self.agents.values():
            if agent.process is not None:
                agent.kill()  # in order it takes a server ten seconds once the others are gone
        end_tasks(self.folder / "nomad")
        end_groups(self._groups)

    def call(self, port: int, path: str, method: str = "GET", body: object = None) -> Any:
        """Call one of its HTTP APIs; OSError when it does not answer."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://{self.address}:{port}/v1{path}"
        with urlopen(Request(url, data=data, method=method), timeout=5) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None

    def _consul_command(self, servers: Sequence[str]) -> list[str]:
        folder = self.folder / "consul"
        folder.mkdir(parents=True)
        settings: dict[str, Any] = {
            "server": self.serves,
            "data_dir": str(folder / "data"),
            "node_name": self.name,
            "bind_addr": self.address,
            "client_addr": "0.0.0.0",
            "disable_update_check": True,
            "retry_join": list(servers),
            "retry_interval": "1s",
            "leave_on_terminate": False,
            "performance": {"raft_multiplier": 1},
            "limits": {"http_max_conns_per_client": 700},
            "ports": {"http": CONSUL_PORT, "dns": CONSUL_DNS_PORT, "grpc": -1, "grpc_tls": -1},
        }
        if self.serves:
            settings |= {"bootstrap_expect": len(servers), "session_ttl_min": "1s"}
        (folder / "consul.json").write_text(json.dumps(settings))
        return [program("consul"), "agent", "-config-file", str(folder / "consul.json")]

    def _nomad_command(self, servers: Sequence[str]) -> list[str]:
        folder = self.folder / "nomad"
        folder.mkdir(parents=True)
        text = NOMAD_COMMON.format(folder=folder, name=self.name, address=self.address)
        if self.serves:
            text += NOMAD_SERVER.format(count=len(servers), servers=json.dumps(list(servers)))
        else:
            text += NOMAD_CLIENT.format(
                mhz=MHZ,
                groups=self._groups,
                servers=json.dumps(list(servers)),
                gateway=json.dumps(self.name in GATEWAYS),
            )
        (folder / "nomad.hcl").write_text(text)
        own(folder)
        return [program("nomad"), "agent", "-config", str(folder / "nomad.hcl")]


class Cluster:
    """The six machines by name."""

    def __init__(self, made: Network, folder: Path) -> None:
        self.here = made.address
        """This process's own address on the network of the machines."""
        hosts = {name: made.add(name) for name in (*SERVERS, *CLIENTS)}
        addresses = [hosts[name].address for name in SERVERS]
        self.own = folder / "own"
        self.own.mkdir(parents=True)
        self.machines = {
            name: Machine(host, folder / name, self.own, addresses, name in SERVERS)
            for name, host in hosts.items()
        }

    @property
    def servers(self) -> list[Machine]:
        return [self.machines[name] for name in SERVERS]

    @property
    def clients(self) -> list[Machine]:
        return [self.machines[name] for name in CLIENTS]

    def start(self) -> None:
        """Start both engines everywhere; return once all know each other."""
        for machine in self.machines.values():
            machine.consul.start()
        until(self._consul_ready, READY_LIMIT_S, "Consul is not ready everywhere")
        for machine in self.machines.values():
            machine.nomad.start()
        until(self._nomad_ready, READY_LIMIT_S, "Nomad is not ready everywhere")

    def stop(self) -> None:
        """End everything: the clients before the servers that they would look for."""
        for machine in reversed(self.machines.values()):
            machine.stop()

    def leader(self, port: int) -> Machine | None:
        """Return the server that leads Consul or Nomad, as the first that answers tells it."""
        for machine in self.servers:
            try:
                address = str(machine.call(port, "/status/leader")).rpartition(":")[0]
            except OSError:
                continue
            return next((one for one in self.servers if one.address == address), None)
        return None

    def _consul_ready(self) -> bool:
        try:
            return all(
                len(machine.call(CONSUL_PORT, "/catalog/nodes")) == len(self.machines)
                for machine in self.machines.values()
            )
        except (OSError, ValueError):
            return False

    def _nomad_ready(self) -> bool:
        try:
            stubs = self.servers[0].call(NOMAD_PORT, "/nodes")
            nodes = [self.servers[0].call(NOMAD_PORT, f"/node/{one['ID']}") for one in stubs]
        except (OSError, ValueError):
            return False
        ready = [n for n in nodes if n["Status"] == "ready" and "consul.version" in n["Attributes"]]
        return len(ready) == len(CLIENTS)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Run six machines for as long as the block lasts."""
    end_tasks_of_dead_runs()
    with ExitStack() as stack:
        made = Cluster(stack.enter_context(network()), folder)
        stack.callback(made.stop)
        made.start()
        yield made
