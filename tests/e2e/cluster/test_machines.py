"""Six machines with the real engines, and what can fail of them one by one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.machines import CONSUL_PORT, NOMAD_PORT, Cluster, cluster
from tests.support.wait import until

pytestmark = pytest.mark.engines


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path) as running:
        yield running


def test_machines_and_leaders_fail_alone(made: Cluster) -> None:
    """The machine first: after a change of its leader Nomad gives every node five minutes."""
    gone = made.clients[2]
    gone.host.cut()
    until(lambda: statuses(made)[gone.name] == "down", 30.0)
    assert [statuses(made)[one.name] for one in made.clients[:2]] == ["ready", "ready"]
    gone.host.mend()
    until(lambda: statuses(made)[gone.name] == "ready", 30.0)
    for port, name in ((CONSUL_PORT, "consul"), (NOMAD_PORT, "nomad")):
        first = made.leader(port)
        assert first is not None
        first.agents[name].kill()
        until(lambda p=port, f=first: made.leader(p) not in (None, f), 20.0)  # type: ignore[misc]
        first.agents[name].start()


def statuses(made: Cluster) -> dict[str, str]:
    for machine in made.servers:
        try:
            nodes = machine.call(NOMAD_PORT, "/nodes")
        except OSError:
            continue
        return {node["Name"]: node["Status"] for node in nodes}
    return {}
