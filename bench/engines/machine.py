"""One machine with everything real, every request to Nomad and Consul counted on its way.

APIs whose names begin with `mock-` become tasks of Nomad's mock driver, which run no process: that
many processes would measure the machine and not Serai.
"""

import json
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.engines.counting import CountingProxy, counting_proxy
from tests.cluster.agents import Agent
from tests.cluster.nomad import NomadAgent, nomad
from tests.cluster.operating import Operator
from tests.cluster.serai_agents import SeraiAgent
from tests.support.schedulers import ADMIN, AGENT, LONG_LEASE, address_in, write_config
from tests.support.wait import until

MOCK = "mock-"
SCHEDULER = str(Path(sys.executable).parent / "serai-scheduler")
READY_LIMIT_S = 60.0
SETTINGS = """
[nomad]
port = {nomad}
[jobs]
cache_dir = "{cache}"
default_memory_mib = 20
disk_mib = 10
log_file_mib = 1
log_files = 1
leave_s = 0.5
"""


def mocked(what: str, body: bytes) -> bytes:
    """Return the body of a register with tasks of the mock driver, where it is such an API's."""
    if not what.startswith("POST /v1/jobs"):
        return body
    sent = json.loads(body)
    job = sent["Job"]
    if not (job.get("Meta") or {}).get("serai_api", "").startswith(MOCK):
        return body
    for group in job["TaskGroups"]:
        group["Tasks"] = [_mocked(task) for task in group["Tasks"] if task.get("Leader")]
    return json.dumps(sent).encode()


def _mocked(task: dict[str, Any]) -> dict[str, Any]:
    services = [{**one, "Checks": []} for one in task["Services"]]  # nobody would answer them
    config = {"run_for": "24h", "kill_after": "0s"}
    return {**task, "Driver": "mock_driver", "Config": config, "Services": services}


class Machine:
    """Consul, Nomad, a scheduler and an agent with a gateway; the two proxies count."""

    def __init__(
        self, folder: Path, engine: NomadAgent, to_nomad: CountingProxy, to_consul: CountingProxy
    ) -> None:
        self.nomad, self._to_nomad, self._to_consul = engine, to_nomad, to_consul
        self.agent = SeraiAgent(
            folder / socket.gethostname(), to_consul.port, ("replicas", "gateway")
        )
        (self.agent.folder / "token").write_text(AGENT)
        config = write_config(
            folder / "scheduler",
            to_consul.port,
            "serai/",
            LONG_LEASE + SETTINGS.format(nomad=to_nomad.port, cache=self.agent.data / "cache"),
            gateway_url=json.dumps(self.agent.url),
        )
        self.scheduler = Agent(folder / "scheduler", [SCHEDULER, "--config", str(config)])
        self.operator = Operator(address_in(config), ADMIN)

    def start(self) -> None:
        """Start Serai; return once it would take a deploy."""
        self.scheduler.start()
        self.agent.start()
        until(self._ready, READY_LIMIT_S, f"not ready: {self.scheduler.log()}{self.agent.log()}")

    def stop(self) -> None:
        self.agent.stop()
        self.scheduler.stop()

    def _ready(self) -> bool:
        return self.operator.has_a_node() and self.agent.ready()

    def requests(self) -> dict[str, Counter[str]]:
        """Return how many requests of which sort each engine has had."""
        return {
            "nomad": Counter(self._to_nomad.counts),
            "consul": Counter(self._to_consul.counts),
        }

    def jobs_left(self) -> list[str]:
        """Return the jobs that Nomad has and that are not dead."""
        jobs = self.nomad.call("GET", "/jobs?prefix=serai-")
        return [one["ID"] for one in jobs if one["Status"] != "dead"]


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Run everything for as long as the block lasts."""
    with ExitStack() as stack:
        engine = stack.enter_context(nomad(folder / "nomad"))
        to_nomad = stack.enter_context(counting_proxy(engine.port, mocked))
        to_consul = stack.enter_context(counting_proxy(engine.beside.port))
        made = Machine(folder, engine, to_nomad, to_consul)
        stack.callback(made.stop)
        made.start()
        yield made
