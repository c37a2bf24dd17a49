"""Serai as the jobs that are shipped: the real Nomad runs scheduler, gateway and agent.

The programs are the installed ones, their configurations the examples with the values of the test,
and the command line deploys through them.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serai_agent.program.holding import holder
from tests.cluster.nomad import NomadAgent, nomad
from tests.cluster.operating import Operator
from tests.cluster.serai_cluster import ADMIN_TOKEN, AGENT_TOKEN, PLATFORM
from tests.integration.cli.servers import CERTIFICATE
from tests.support.examples import AGENT, ROOT, SCHEDULER, with_values
from tests.support.gateway_traffic import steady
from tests.support.ports import free_port
from tests.support.serai import call, write_predictor
from tests.support.wait import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

INSTALLED = Path(sys.executable).parents[1]
META = 'client { meta = { "serai_gateway" = "true" } }'
CHANGE_LIMIT_S = 60.0
END_LIMIT_S = 15.0
JSON = {"Content-Type": "application/json"}
STILL = "autoscaling: {policy: fixed}\n"
"""What runs is compared with what ran: no other count is to come in between."""
RATE = 50.0
CODE = """
class Predictor:
    def predict(self, payload):
        return "hello"
"""


class SystemJobs:
    """One machine whose Nomad runs Serai; `folder` has the configurations and all data."""

    def __init__(self, folder: Path, engine: NomadAgent) -> None:
        self.folder, self.engine = folder, engine
        self.operator_port, self.gateway_port, self.listen_port = (free_port() for _ in range(3))
        self.data = folder / "serai"
        (folder / "admin.token").write_text(ADMIN_TOKEN + "\n")
        (folder / "agent.token").write_text(AGENT_TOKEN + "\n")
        (folder / "scheduler.toml").write_text(self._scheduler())
        (folder / "agent.toml").write_text(self._agent())
        self.operator = Operator(self._operator_url, ADMIN_TOKEN, str(CERTIFICATE))

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def _operator_url(self) -> str:
        return f"https://localhost:{self.operator_port}"

    def _scheduler(self) -> str:
        return with_values(
            SCHEDULER,
            {
                "data_dir": str(self.data / "scheduler"),
                "gateway_url": self.gateway,
                "advertise": self._operator_url,
                "peers_ca": str(CERTIFICATE),
                "blobs": str(self.data / "blobs"),
                "listen.port": self.operator_port,
                "listen.certificate": str(CERTIFICATE),
                "listen.key": str(CERTIFICATE),
                "tokens.admin": str(self.folder / "admin.token"),
                "tokens.agent": str(self.folder / "agent.token"),
                "predictors.python": f"{sys.version_info.major}.{sys.version_info.minor}",
                "consul.port": self.engine.beside.port,
                "consul.token_file": "",
                "nomad.port": self.engine.port,
                "nomad.tls": False,
                "nomad.ca": "",
                "nomad.certificate": "",
                "nomad.key": "",
                "nomad.token_file": "",
                "jobs.cache_dir": str(self.data / "agent" / "cache"),
                "jobs.platform": PLATFORM,
                "lease.ttl_s": 4.0,
                "lease.margin_s": 1.0,
            },
        )

    def _agent(self) -> str:
        return with_values(
            AGENT,
            {
                "data_dir": str(self.data / "agent"),
                "consul.port": self.engine.beside.port,
                "scheduler.token_file": str(self.folder / "agent.token"),
                "scheduler.ca": str(CERTIFICATE),
                "listen.port": self.listen_port,
                "nomad.address": f"http://127.0.0.1:{self.engine.port}",
                "gateway.host": "127.0.0.1",
                "gateway.port": self.gateway_port,
                "gateway.certificate": "",
                "gateway.start": False,
            },
        )

    def run(self, name: str, **variables: object) -> None:
        """Run a job that is shipped, or update it, and return once Nomad says that it is done."""
        config = self.folder / ("scheduler.toml" if name == "scheduler" else "agent.toml")
        told = {"serai": INSTALLED, "config": config, **variables}
        options = [text for key, value in told.items() for text in ("-var", f"{key}={value}")]
        done = self.engine.nomad_job("run", *options, str(ROOT / "jobspecs" / f"{name}.nomad.hcl"))
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        self.run("scheduler", port=self.operator_port, count=1)
        self.run("gateway", port=self.gateway_port)
        self.run("agent")
        until(self.is_up, CHANGE_LIMIT_S, "the scheduler does not hear of the node")

    def is_up(self) -> bool:
        """Say whether the scheduler hears of this node, and replicas may be placed on it."""
        done = self.operator.run("nodes", "-o", "json")
        nodes = json.loads(done.stdout)["nodes"] if done.returncode == 0 else []
        found = [(one["node"], one["state"], one["takes"]) for one in nodes]
        return found == [(socket.gethostname(), "up", True)]

    def agent(self) -> int | None:
        """Return the process that is the agent, None while there is none."""
        return holder(self.data / "agent")

    def another_agent(self, before: int | None) -> int:
        """Return the process of the agent that came after another one, once it is ready."""
        until(lambda: self.agent() not in (None, before), CHANGE_LIMIT_S, "no agent comes again")
        until(self._agent_is_ready, CHANGE_LIMIT_S, "the agent that came again is not ready")
        now = self.agent()
        assert now is not None
        return now

    def _agent_is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            return call(f"http://127.0.0.1:{self.listen_port}/readyz").status == 200
        return False

    def answers(self) -> bool:
        """Say whether the gateway has an answer to a request."""
        with contextlib.suppress(OSError):
            return call(f"{self.gateway}/hello", b"{}", JSON).status == 200
        return False

    def haproxy(self) -> str:
        return (self.data / "agent" / "gateway" / "haproxy.pid").read_text()

    def task(self, job: str) -> list[tuple[str, int]]:
        """Return the allocations of a job that run, each with its tasks' restarts."""
        return [
            (one["ID"], sum(task["Restarts"] for task in one["TaskStates"].values()))
            for one in self.engine.running(job)
        ]

    def jobs(self) -> list[str]:
        """Return the jobs that Nomad has, first the scheduler's, which would start others anew."""
        found = [str(one["ID"]) for one in self.engine.call("GET", "/jobs?prefix=serai-")]
        return sorted(found, key=lambda job: job != "serai-scheduler")

    def end(self, job: str, within_s: float) -> None:
        """Stop a job; fail when something of it still runs after that time."""
        self.engine.call("DELETE", f"/job/{job}")
        until(lambda: not self.engine.running(job), within_s, f"{job} takes too long to end")


@contextmanager
def system_jobs(folder: Path) -> Iterator[SystemJobs]:
    with nomad(folder / "engines", META) as engine:
        made = SystemJobs(folder, engine)
        try:
            made.start()
            yield made
        finally:
            for job in made.jobs():
                engine.purge(job)


def another_folder(folder: Path) -> Path:
    """Return the installed programs under another name, as a new release is in a new folder."""
    made = folder / "release-2"
    made.symlink_to(INSTALLED)
    return made


def test_the_gateway_answers_while_agent_and_scheduler_are_updated_or_die(tmp_path: Path) -> None:
    project = write_predictor(tmp_path / "project", CODE, STILL)
    release_2 = another_folder(tmp_path)
    with system_jobs(tmp_path) as serai:
        done = serai.operator.run("deploy", str(project), "--wait", "-y")
        assert done.returncode == 0, done.stdout + done.stderr
        (replica_job,) = [one["ID"] for one in serai.engine.call("GET", "/jobs?prefix=serai-hello")]
        replica, haproxy = serai.task(replica_job), serai.haproxy()
        with steady([serai.gateway], "/hello", RATE) as traffic:
            until(lambda: traffic.answered > RATE, CHANGE_LIMIT_S)
            first = serai.agent()
            serai.run("agent", serai=release_2)
            second = serai.another_agent(first)
            os.kill(second, signal.SIGKILL)
            serai.another_agent(second)
            serai.run("scheduler", port=serai.operator_port, count=1, serai=release_2)
            until(serai.is_up, CHANGE_LIMIT_S, "the new scheduler does not hear of the node")
            serai.end("serai-scheduler", END_LIMIT_S)
        assert traffic.lost == [] and traffic.answered == traffic.sent
        assert (serai.task(replica_job), serai.haproxy()) == (replica, haproxy)
        serai.run("gateway", port=serai.gateway_port, serai=release_2)
        until(lambda: serai.answers() and serai.haproxy() != haproxy, CHANGE_LIMIT_S)
