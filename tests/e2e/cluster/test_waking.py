"""An API that sleeps in a cluster is woken at the gateway, whose agent asks the leader."""

from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.cluster.serai_machine import serai_machine
from tests.support.http_program import program, serving, write_project
from tests.support.serai import call
from tests.support.wait import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

SLEEPS = {"min_replicas": 0, "max_replicas": 2, "idle_to_zero": "10s"}
LIMIT_S = 90.0


def test_callers_of_a_clusters_gateway_wake_and_follow_it(tmp_path: Path) -> None:
    with serai_machine(tmp_path) as machine:
        spec = program("hello", serving("hello"), autoscaling=SLEEPS)
        project = write_project(tmp_path / "project", spec)
        done = machine.operator.run("deploy", str(project), "--wait", "-y")
        assert done.returncode == 0, done.stdout + done.stderr + machine.scheduler.log()

        def sleeps() -> bool:
            return bool(machine.operator.json("describe", "hello")["status"]["ready"] == 0)

        until(sleeps, LIMIT_S, "it falls asleep")
        url = f"{machine.agent.url}/hello/_serai/wake"
        request = Request(url, headers={"Accept": "text/event-stream"})
        with urlopen(request, timeout=LIMIT_S) as stream:
            told = stream.read().decode()
        events = [line for line in told.splitlines() if line.startswith("event: ")]
        assert events[0] == "event: progress" and events[-1] == "event: ready", told
        assert call(url).json()["phase"] == "ready"
        assert call(f"{machine.agent.url}/hello").status == 200
