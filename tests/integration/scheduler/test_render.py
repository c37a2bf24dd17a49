"""What `serai render` prints of an API that runs: whoever hands that to Nomad ends nothing."""

import json
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.nomad import NomadAgent, nomad
from tests.cluster.operating import Operator
from tests.cluster.serai_agents import SeraiAgent
from tests.integration.scheduler.test_refused import scheduler
from tests.support.gateway_traffic import Traffic, steady
from tests.support.http_program import MOUNTED, program, serving, write_project
from tests.support.schedulers import AGENT, write_config
from tests.support.wait import until

pytestmark = pytest.mark.engines
MORE = """
[nomad]
port = {nomad}
[jobs]
cache_dir = "{cache}"
default_memory_mib = {memory}
restarts = 0
leave_s = 0.2
"""


def test_the_job_that_runs_is_printed_and_running_it_changes_nothing(tmp_path: Path) -> None:
    """Its replicas have other numbers by now, and the scheduler other settings."""
    with nomad(tmp_path / "nomad") as agent, ExitStack() as stack:
        node = SeraiAgent(
            tmp_path / socket.gethostname(), agent.beside.port, ("replicas", "gateway"), token=AGENT
        )
        stack.callback(node.stop)
        node.start()
        with scheduler(configured(tmp_path / "old", agent, node, 64), "no APIs yet") as operator:
            until(operator.has_a_node, 20.0)
            project = write_project(tmp_path / "project", program("iris", serving("one")))
            done = operator.run("deploy", str(project), "--wait", "-y")
            assert done.returncode == 0, done.stdout + done.stderr
            job = f"serai-iris--{operator.statuses()['iris']['version']}"
            assert operator.run("scale", "iris", "--replicas", "2").returncode == 0
            agent.exactly(2, lambda: agent.running(job))
            until(lambda: ready(operator) == 2, 20.0)
            first = next(one for one in agent.running(job) if one["TaskGroup"] == "1")
            kill = {"Task": "replica", "Signal": "SIGKILL"}
            agent.call("POST", f"/client/allocation/{first['ID']}/signal", kill)
            until(lambda: groups(agent, job) == ["2", "3"] and ready(operator) == 2, 30.0)
        with scheduler(configured(tmp_path / "new", agent, node, 65), "iris") as operator:
            until(lambda: ready(operator) == 2, 30.0)
            before, version = running(agent, job), agent.call("GET", f"/job/{job}")["Version"]
            with steady([node.url], "/iris", 20.0) as traffic:
                for form in ("hcl", "json"):
                    run_by_hand(agent, operator, form, tmp_path / f"job.{form}")
                    served_more(traffic)
                    assert running(agent, job) == before
            assert traffic.lost == []
            assert agent.call("GET", f"/job/{job}")["Version"] == version


def served_more(traffic: Traffic) -> None:
    enough = traffic.answered + 40
    until(lambda: traffic.answered > enough)


def configured(folder: Path, agent: NomadAgent, node: SeraiAgent, memory_mib: int) -> Path:
    cache = node.data / "cache"
    return write_config(
        folder,
        agent.beside.port,
        "serai/",
        MORE.format(nomad=agent.port, cache=cache, memory=memory_mib),
        gateway_url=json.dumps(node.url),
        mount_roots=json.dumps(MOUNTED),
    )


def run_by_hand(agent: NomadAgent, operator: Operator, form: str, file: Path) -> None:
    """Hand what is printed to Nomad, as an operator does."""
    done = operator.run("render", "iris", "--format", form)
    assert done.returncode == 0, done.stderr
    file.write_text(done.stdout)
    flags = ["-json"] if form == "json" else []
    checked = agent.nomad_job("validate", *flags, str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    ran = agent.nomad_job("run", *flags, "-detach", str(file))
    assert ran.returncode == 0, ran.stdout + ran.stderr


def ready(operator: Operator) -> int:
    return int(operator.statuses()["iris"]["ready"])


def groups(agent: NomadAgent, job: str) -> list[str]:
    return sorted(one["TaskGroup"] for one in agent.running(job))


def running(agent: NomadAgent, job: str) -> set[tuple[str, str, int]]:
    """Return the allocations that run, each with its group and how often it was started again."""
    return {
        (one["ID"], one["TaskGroup"], int(one["TaskStates"]["replica"]["Restarts"]))
        for one in agent.running(job)
    }
