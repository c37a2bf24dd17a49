"""What replicas in a cluster use: told by `serai describe` and as metrics, for every driver."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.serai_machine import SeraiMachine, serai_machine
from tests.support.http_program import PYTHON, container, program, write_project
from tests.support.wait import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

HELD_BYTES = 2**26
BUSY = f"""
import threading

held = b"x" * {HELD_BYTES}

def turn():
    while True:
        sum(range(1000))

threading.Thread(target=turn, daemon=True).start()
"""
APIS = {"process": program, "container": container}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeraiMachine]:
    with serai_machine(tmp_path_factory.mktemp("machine")) as made:
        yield made


def test_processor_and_memory_of_processes_and_containers_are_told(
    machine: SeraiMachine, tmp_path: Path
) -> None:
    serve = "import sys; exec(sys.argv[3]); exec(sys.argv[4])"
    server = (write_project(tmp_path / "server") / "server.py").read_text()
    command = [PYTHON, "-c", serve, "200", "one", BUSY, server.replace("argv[3:]", "argv[5:]")]
    memory = {"compute": {"mem": "256Mi"}}
    apis = [kind(name, command, **memory) for name, kind in APIS.items()]
    done = machine.operator.run(
        "deploy", str(write_project(tmp_path / "apis", *apis)), "--wait", "-y"
    )
    assert done.returncode == 0, done.stdout + done.stderr + machine.scheduler.log()
    for name in APIS:
        until(lambda n=name: is_busy(use_of(machine, n)), 20.0, machine.agent.log)  # type: ignore[misc]
        replica = use_of(machine, name)["replica"]["id"]
        metrics = machine.agent.metrics()
        assert f'serai_agent_replica_cpu_used_cores{{replica="{replica}"}}' in metrics
        assert f'serai_agent_replica_memory_used_bytes{{replica="{replica}"}}' in metrics
    (node,) = machine.operator.json("nodes")["nodes"]
    assert (node["replicas"], node["engine_version"]) == (len(APIS), "1.6.1")


def use_of(machine: SeraiMachine, api: str) -> dict[str, Any]:
    """Return what `serai describe` tells of the only replica of an API that lives."""
    replicas: list[dict[str, Any]] = machine.operator.json("describe", api)["replicas"]
    (one,) = [one for one in replicas if one["replica"]["state"] == "ready"]
    return one


def is_busy(use: dict[str, Any]) -> bool:
    cores, held_bytes = use["cpu_cores"] or 0.0, use["memory_bytes"] or 0
    return cores > 0.1 and HELD_BYTES < held_bytes < 4 * HELD_BYTES
