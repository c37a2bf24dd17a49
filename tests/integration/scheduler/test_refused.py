"""A scheduler that Nomad or Consul refuse, or whose Nomad lacks docker: who deploys is told so."""

import json
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from serai.errors import Refused
from serai_cli.exits import FAILED, UNREACHABLE
from serai_scheduler.nomad.client import NomadClient, NomadSettings
from tests.cluster.agents import Agent, consul
from tests.cluster.nomad import nomad
from tests.cluster.operating import Operator
from tests.cluster.serai_agents import SeraiAgent
from tests.support.gateway_traffic import steady
from tests.support.http_program import MOUNTED, container, program, serving, write_project
from tests.support.schedulers import ADMIN, AGENT, address_in, write_config
from tests.support.wait import until

pytestmark = pytest.mark.engines
SCHEDULER = str(Path(sys.executable).parent / "serai-scheduler")
TOKEN = str(uuid.uuid4())
ROOTS = json.dumps(MOUNTED)


@contextmanager
def scheduler(config: Path, words: str) -> Iterator[Operator]:
    """Run one until it answers with these words."""
    process = Agent(config.parent, [SCHEDULER, "--config", str(config)])
    operator = Operator(address_in(config), ADMIN)
    try:
        process.start()

        def answers() -> bool:
            done = operator.run("get")
            return words in done.stdout + done.stderr

        until(answers, 20.0, f"never said: {words}")
        yield operator
    finally:
        process.kill()


def deployed(config: Path, project: Path) -> "subprocess.CompletedProcess[str]":
    """Deploy a program by a scheduler that Consul lets lead."""
    with scheduler(config, "no APIs yet") as operator:
        write_project(project, container("iris", ["serve"]))
        return operator.run("deploy", str(project), "--wait", "-y")


async def test_a_nomad_that_refuses_the_token(tmp_path: Path) -> None:
    with nomad(tmp_path / "nomad", token=TOKEN) as agent:
        client = NomadClient(NomadSettings(port=agent.port, token=str(uuid.uuid4())))
        with pytest.raises(Refused, match=r"refuses the token \(.*see `nomad.token_file`") as told:
            await client.nodes()
        assert told.value.code == "nomad_forbidden"
        await client.close()
        more = f"[nomad]\nport = {agent.port}\n[updates]\nready_s = 3.0\n"
        config = write_config(
            tmp_path / "scheduler",
            agent.beside.port,
            "serai/",
            more,
            mount_roots=ROOTS,
        )
        done = deployed(config, tmp_path / "project")
        why = (
            f"Nomad has not told its present state: Nomad at http://127.0.0.1:{agent.port} refuses "
            "the token (Permission denied); see `nomad.token_file` and what its policies allow"
        )
        assert done.returncode == FAILED, done.stderr
        assert f"for now nothing is started or stopped: {why}" in done.stdout
        assert f" failed: not ready within 3 s: {why}" in done.stdout


def test_a_nomad_without_docker(tmp_path: Path) -> None:
    """The version before, a program, serves all the time; of the container nothing is left."""
    driver = f'plugin "docker" {{ config {{ endpoint = "unix://{tmp_path}/none" }} }}'
    with nomad(tmp_path / "nomad", driver) as agent, ExitStack() as stack:
        node = SeraiAgent(
            tmp_path / socket.gethostname(),
            agent.beside.port,
            ("replicas", "gateway"),
            token=AGENT,
        )
        cache = node.data / "cache"
        config = write_config(
            tmp_path / "scheduler",
            agent.beside.port,
            "serai/",
            f"[nomad]\nport = {agent.port}\n[updates]\nstuck_s = 1.0\n"
            f'[jobs]\ncache_dir = "{cache}"\ndefault_memory_mib = 64\n',
            gateway_url=json.dumps(node.url),
            mount_roots=ROOTS,
        )
        stack.callback(node.stop)
        node.start()
        operator = stack.enter_context(scheduler(config, "no APIs yet"))
        until(operator.has_a_node, 20.0)
        first = write_project(tmp_path / "first", program("iris", serving("one")))
        done = operator.run("deploy", str(first), "--wait", "-y")
        assert done.returncode == 0, done.stdout + done.stderr
        before = operator.statuses()["iris"]["version"]
        second = write_project(tmp_path / "second", container("iris", ["serve"]))
        with steady([node.url], "/iris", 20.0) as traffic:
            until(lambda: traffic.answered > 20)
            done = operator.run("deploy", str(second), "--wait", "-y")
            enough = traffic.answered + 20
            until(lambda: traffic.answered > enough)
        assert done.returncode == FAILED, done.stderr
        assert (
            " failed: no node can ever run it: 1 node without a driver that it needs "
            "(is dockerd running there?)"
        ) in done.stdout
        assert traffic.lost == []
        status = operator.statuses()["iris"]
        assert (status["state"], status["version"], status["ready"]) == ("live", before, 1)

        def alive() -> list[str]:
            jobs = agent.call("GET", "/jobs?prefix=serai-")
            return [one["ID"] for one in jobs if one["Status"] != "dead"]

        until(lambda: alive() == [f"serai-iris--{before}"], 10.0, f"left: {alive()}")


def test_a_consul_that_refuses_the_token(tmp_path: Path) -> None:
    with consul(tmp_path / "consul", TOKEN) as agent:
        config = write_config(tmp_path / "scheduler", agent.port, "serai/")
        why = f"this scheduler cannot find out who leads: Consul at http://127.0.0.1:{agent.port}"
        with scheduler(config, why) as operator:
            project = write_project(tmp_path / "project", program("iris", serving("one")))
            done = operator.run("deploy", str(project), "--wait", "-y")
        assert done.returncode == UNREACHABLE
        assert f"{why} refuses the token (" in done.stderr
        assert "); see `consul.token_file` and what its policies allow" in done.stderr
