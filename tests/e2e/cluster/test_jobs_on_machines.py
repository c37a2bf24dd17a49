"""The shipped jobs on several machines: three schedulers, two gateways, an agent on each client."""

from pathlib import Path

import pytest

from tests.cluster.machines import CLIENTS, GATEWAYS
from tests.cluster.serai_jobs import CHANGE_LIMIT_S, INSTALLED, SeraiJobs, serai_jobs
from tests.support.gateway_traffic import steady
from tests.support.http_program import STILL, program, serving, write_project
from tests.support.serai import call
from tests.support.wait import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

RATE = 50.0
FAILOVER_LIMIT_S = 10.0


def answers(serai: SeraiJobs) -> list[bytes]:
    """Return what each gateway answers."""
    return [call(f"{gateway}/hello").body for gateway in serai.gateways]


def deploy(serai: SeraiJobs, folder: Path, text: str, through: str) -> None:
    api = program("hello", serving(text), autoscaling={**STILL, "min_replicas": 2})
    project = write_project(folder / text, api)
    done = serai.operator(through).run("deploy", str(project), "--wait", "-y")
    assert done.returncode == 0, done.stdout + done.stderr + serai.logs()


def test_schedulers_gateways_and_agents_run_as_jobs_on_several_machines(tmp_path: Path) -> None:
    release_2 = tmp_path / "release-2"
    release_2.symlink_to(INSTALLED)
    with serai_jobs(tmp_path / "jobs") as serai:
        assert sorted(serai.running("serai-scheduler")) == [*CLIENTS], "each on its own machine"
        assert sorted(serai.running("serai-gateway")) == [*GATEWAYS]
        (first,) = serai.leaders()
        others = [name for name in CLIENTS if name != first]
        deploy(serai, tmp_path, "one", through=others[0])
        assert answers(serai) == [b"one", b"one"]

        haproxies, agents = serai.haproxies(), serai.agents()
        with steady(serai.gateways, "/hello", RATE) as traffic:
            until(lambda: traffic.answered > RATE, CHANGE_LIMIT_S)
            serai.run("agent", serai=release_2)
            until(lambda: replaced(agents, serai.agents()), CHANGE_LIMIT_S, serai.logs)
            until(serai.is_up, CHANGE_LIMIT_S, serai.logs)
            assert serai.haproxies() == haproxies, "an update of the agents leaves them alone"

            stopped = serai.running("serai-scheduler")[first]
            serai.stop_allocation(stopped)
            until(lambda: serai.leaders() not in ([], [first]), FAILOVER_LIMIT_S, serai.logs)
            until(serai.is_up, CHANGE_LIMIT_S, serai.logs)
            until(lambda: three_without(serai, stopped), CHANGE_LIMIT_S, serai.logs)
            deploy(serai, tmp_path, "two", through=first)
            assert answers(serai) == [b"two", b"two"]
        assert traffic.lost == [] and traffic.answered == traffic.sent
        assert serai.haproxies() == haproxies


def three_without(serai: SeraiJobs, stopped: str) -> bool:
    """Say whether every machine runs a scheduler again, none of them the one that was stopped."""
    found = serai.running("serai-scheduler")
    return sorted(found) == [*CLIENTS] and stopped not in found.values()


def replaced(before: dict[str, int | None], now: dict[str, int | None]) -> bool:
    return all(now[name] not in (None, before[name]) for name in before)
