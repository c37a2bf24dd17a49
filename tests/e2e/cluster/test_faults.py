"""What fails on six machines while 200 requests/s go through two gateways: none is lost.

Outages last three times the lease's time to live. `make bench-faults` has the long ones.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from serai.cache_names import BUNDLES
from serai_agent.program.node import CACHE
from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.names import JobName, job_id
from tests.cluster.links import Faults, Links, linked
from tests.cluster.machines import CONSUL_PORT, NOMAD_PORT
from tests.cluster.observe import allocations, observe, sweep
from tests.cluster.serai_cluster import TTL_S, SeraiCluster
from tests.cluster.starts import superfluous
from tests.cluster.steady import (
    API,
    CUT_MAY_LOSE,
    MORE_REPLICAS,
    NEXT_LEADER_LIMIT_S,
    ONCE,
    ONCE_REPLICAS,
    PER_REPLICA,
    RATE,
    REPLICAS,
    SLOW_LINK_S,
    change,
    code,
    delete_once,
    deploy_once,
    has_left,
    inhabit,
    insist,
    kill_gateway,
    led_by_another,
    pause_leader,
    project,
    scale,
    settled,
    takes,
)
from tests.cluster.sweep import findings
from tests.support.gateway_traffic import Traffic, steady
from tests.support.serai import write_predictor
from tests.support.wait import let_pass, until
from tests.unit.nomad.values import program

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]
OUTAGE_S = 3 * TTL_S
BACK_LIMIT_S = {"nomad": 30.0, "consul": 20.0}
UP_LIMIT_S = 6.0
"""Both twice what is promised, for a machine that other tests share; `make bench-faults` is exact.
"""


@pytest.fixture(scope="module")
def api(serai: SeraiCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    serai.deploy(project(tmp_path_factory.mktemp(API)))
    return API


@pytest.fixture
def traffic(serai: SeraiCluster, api: str) -> Iterator[Traffic]:
    """Send requests for the whole of a test; it begins and ends with all as it should be.

    None is lost, unless a test says how many may be. In the end nothing is left anywhere that
    belongs to nobody.
    """
    until(lambda: settled(serai), 60.0, lambda: f"not as wanted: {serai.logs()}")
    with steady(serai.gateways, f"/{api}", RATE) as sent:
        until(lambda: sent.answered > RATE, 10.0, f"no answers: {sent.lost[:3]}")
        yield sent
        until(lambda: settled(serai), 60.0, lambda: f"not as wanted again: {serai.logs()}")
        before = sent.answered
        until(lambda: sent.answered > before + RATE, 10.0)
    # Only now the last of them are known.
    assert len(sent.lost) <= sent.may_lose, sent.lost
    assert not (orphans := sweep(serai)), "\n".join(orphans)


def test_a_sweep_sees_what_nobody_has(serai: SeraiCluster, api: str) -> None:
    """Else that it finds nothing would say nothing."""
    machine = serai.machines.machines["client3"]
    version = msgspec.structs.replace(program("sleep", "600"), api="ghost")
    job = job_of(version, (1,), serai.jobs)
    key = "/kv/serai/of-nobody"
    service = {"ID": "ghost-1", "Name": "serai-api-ghost", "Port": 1}
    part = serai.agent_folder("client3") / CACHE / BUNDLES / ".new-half"
    process = machine.host.agent(machine.folder / "ghost", ["sleep", "600"])
    machine.call(CONSUL_PORT, key, "PUT", {})
    machine.call(CONSUL_PORT, "/agent/service/register", "PUT", service)
    machine.call(NOMAD_PORT, "/jobs", "POST", {"Job": job})
    part.mkdir(parents=True)  # on a node that has had no replica there is no folder yet
    process.start()
    try:
        assert process.process is not None
        for told in (
            "store: of-nobody:",
            "catalog: ghost-1 on client3:",
            "agent on client3: ghost-1",
            f"job {job['ID']} runs 1 replicas:",
            "unfinished bundles/.new-half:",
            f"client3: process {process.process.pid} (sleep 600):",
        ):
            until(lambda t=told: any(t in one for one in findings(observe(serai), serai.jobs)))  # type: ignore[misc]
    finally:
        process.kill()
        part.rmdir()
        machine.call(NOMAD_PORT, f"/job/{job['ID']}?purge=true", "DELETE")
        machine.call(CONSUL_PORT, "/agent/service/deregister/ghost-1", "PUT")
        machine.call(CONSUL_PORT, key, "DELETE")
    assert sweep(serai) == []


def test_the_leader_is_killed(serai: SeraiCluster, traffic: Traffic) -> None:
    first = serai.leader()
    serai.schedulers[first].kill()
    until(led_by_another(serai, first), NEXT_LEADER_LIMIT_S)
    serai.schedulers[first].start()


def started(serai: SeraiCluster, version: str) -> bool:
    job = job_id(serai.jobs.prefix, JobName(API, version))
    return any(one.job == job for one in allocations(serai))


def moved(serai: SeraiCluster, version: str) -> bool:
    told = serai.ask(serai.leader() or "server1", f"/v1/apis/{API}")
    return told.status == 200 and told.json()["status"]["version"] == version


STEPS: dict[str, Callable[[SeraiCluster, str], bool]] = {
    "accepted": lambda serai, version: True,
    "started": started,
    "moved": moved,
}


@pytest.mark.parametrize("step", STEPS)
def test_the_leader_is_killed_in_a_deploy(
    serai: SeraiCluster, traffic: Traffic, tmp_path: Path, step: str
) -> None:
    """The next one goes on with it; `tests/sim` has every step, and ends of other kinds."""
    before = {one.id for one in allocations(serai)}
    told = insist(serai, "deploy", str(project(tmp_path, step)), "--detach", "-y", "-o", "json")
    (version,) = [one["version"] for one in json.loads(told)["apis"]]
    until(lambda: STEPS[step](serai, version), 30.0)
    first = serai.leader()
    serai.schedulers[first].kill()
    until(led_by_another(serai, first), NEXT_LEADER_LIMIT_S)
    serai.schedulers[first].start()
    until(lambda: moved(serai, version) and settled(serai), 60.0, serai.logs)
    job = job_id(serai.jobs.prefix, JobName(API, version))
    assert superfluous(allocations(serai), before, {job: REPLICAS}) == []


def test_all_schedulers_are_away(serai: SeraiCluster, traffic: Traffic) -> None:
    for one in serai.schedulers.values():
        one.kill()
    let_pass(OUTAGE_S)
    for one in serai.schedulers.values():
        one.start()
    until(lambda: serai.leader() != "", NEXT_LEADER_LIMIT_S)


@pytest.mark.parametrize(("program", "port"), [("nomad", NOMAD_PORT), ("consul", CONSUL_PORT)])
def test_the_leader_of_an_engine_is_killed(
    serai: SeraiCluster, traffic: Traffic, program: str, port: int
) -> None:
    first = serai.machines.leader(port)
    assert first is not None
    first.agents[program].kill()
    until(lambda: serai.machines.leader(port) not in (None, first), 20.0)
    first.agents[program].start()


@pytest.mark.parametrize("program", ["nomad", "consul"])
def test_an_engine_has_no_server(serai: SeraiCluster, traffic: Traffic, program: str) -> None:
    for machine in serai.machines.servers:
        machine.agents[program].kill()
    let_pass(OUTAGE_S)
    for machine in serai.machines.servers:
        machine.agents[program].start()
    until(lambda: serai.leader() != "", BACK_LIMIT_S[program])


def test_consul_is_away_everywhere(serai: SeraiCluster, traffic: Traffic) -> None:
    """Its agents on all nodes, too: gateways and replicas have nobody to ask or to tell."""
    machines = serai.machines.machines.values()
    for machine in machines:
        machine.consul.kill()
    let_pass(OUTAGE_S)
    for machine in machines:
        machine.consul.start()
    until(lambda: serai.leader() != "", BACK_LIMIT_S["consul"])


def test_an_agent_is_killed_and_another_is_paused(serai: SeraiCluster, traffic: Traffic) -> None:
    serai.agents["client1"].kill()
    serai.agents["client2"].pause()
    let_pass(OUTAGE_S)
    until(lambda: not serai.is_up("client1") and not serai.is_up("client2"), 20.0)
    for name, back in (
        ("client1", serai.agents["client1"].start),
        ("client2", serai.agents["client2"].resume),
    ):
        back()
        until(lambda n=name: serai.is_up(n), UP_LIMIT_S)  # type: ignore[misc]


def test_a_replica_is_killed(serai: SeraiCluster, traffic: Traffic) -> None:
    serai.kill_replica(API)
    let_pass(2.0)


def test_a_replica_whose_requests_may_not_be_repeated_is_killed(
    serai: SeraiCluster, tmp_path: Path
) -> None:
    """At most what was in flight on it is lost; what could not be sent to it goes elsewhere."""
    scaling = "autoscaling: {policy: fixed, min_replicas: 2}\n"
    spec = f"concurrency: {{per_replica: {PER_REPLICA}}}\n{scaling}"
    serai.deploy(write_predictor(tmp_path / "once", code(), spec, name="once"))
    with steady(serai.gateways, "/once", RATE) as sent:
        until(lambda: sent.answered > RATE, 10.0)
        serai.kill_replica("once")
        let_pass(2.0)
        until(lambda: serai.serves("once", 2), 60.0, serai.logs)
    assert len(sent.lost) <= PER_REPLICA, sent.lost
    insist(serai, "delete", "once", "-y")
    until(lambda: serai.ask(serai.leader(), "/v1/apis/once").status == 404, 60.0)


def test_a_node_is_drained_and_opened_again(serai: SeraiCluster, traffic: Traffic) -> None:
    inhabit(serai, "client3")
    insist(serai, "node", "drain", "client3")
    until(lambda: has_left(serai, "client3") and not takes(serai, "client3"), 60.0)
    insist(serai, "node", "uncordon", "client3")
    until(lambda: takes(serai, "client3"), 20.0)
    scale(serai, REPLICAS)


def test_a_node_is_drained_by_nomad(serai: SeraiCluster, traffic: Traffic) -> None:
    """It ends a replica and places it anew; `serai nodes` tells of it, and opens the node again."""
    inhabit(serai, "client3")
    server = serai.machines.servers[0]
    (node,) = [one["ID"] for one in server.call(NOMAD_PORT, "/nodes") if one["Name"] == "client3"]
    drain = {"DrainSpec": {"Deadline": 60_000_000_000}, "MarkEligible": False}
    server.call(NOMAD_PORT, f"/node/{node}/drain", "POST", drain)
    until(lambda: "Nomad to move 1 replica elsewhere" in serai.run("nodes").stdout, 20.0)
    until(lambda: has_left(serai, "client3") and not takes(serai, "client3"), 60.0)
    assert "client3 closed" in " ".join(serai.run("nodes").stdout.split())
    counts = {one["node"]: one["replicas"] for one in serai.json("nodes")["nodes"]}
    assert counts["client3"] == 0 and sum(counts.values()) == MORE_REPLICAS
    insist(serai, "node", "uncordon", "client3")
    until(lambda: takes(serai, "client3"), 20.0)
    scale(serai, REPLICAS)


def test_a_node_is_cut_off(serai: SeraiCluster, traffic: Traffic) -> None:
    """Only what was in flight on it may be lost; with `retry: idempotent` not even that."""
    inhabit(serai, "client3")
    node = serai.machines.machines["client3"]
    node.host.cut()
    until(lambda: has_left(serai, "client3"), 60.0)
    node.host.mend()
    scale(serai, REPLICAS)


def test_a_node_whose_requests_may_not_be_repeated_is_cut_off(
    serai: SeraiCluster, tmp_path: Path
) -> None:
    """Lost is at most what was in flight there, and what came for it until the check noticed."""
    deploy_once(serai, tmp_path, "client3")
    node = serai.machines.machines["client3"]
    with steady(serai.gateways, f"/{ONCE}", RATE) as sent:
        until(lambda: sent.answered > RATE, 10.0)
        node.host.cut()
        until(
            lambda: serai.serves(ONCE, ONCE_REPLICAS) and not serai.replicas_on(ONCE, "client3"),
            60.0,
            serai.logs,
        )
        node.host.mend()
        until(lambda: takes(serai, "client3"), 60.0)
    assert len(sent.lost) <= CUT_MAY_LOSE, sent.lost
    delete_once(serai)


def test_a_node_with_a_gateway_has_a_slow_link(
    serai: SeraiCluster, traffic: Traffic, tmp_path: Path
) -> None:
    """Reports, Nomad's and Consul's talk, routes, checks and half of all requests come late."""
    with serai.machines.machines["client1"].host.slowed(SLOW_LINK_S):
        assert change(serai, project(tmp_path, "slow link")) == []


def test_a_gateway_is_drained_and_started_again(serai: SeraiCluster, traffic: Traffic) -> None:
    serai.drain_gateway("client2")
    let_pass(2.0)
    serai.agents["client2"].start()


def test_a_gateway_is_killed(serai: SeraiCluster, traffic: Traffic) -> None:
    """Only what was in flight on it is lost: its clients take the other one."""
    traffic.may_lose = kill_gateway(serai, "client2", traffic)
    let_pass(2.0)


@pytest.fixture(scope="module")
def links(serai: SeraiCluster, api: str) -> Iterator[Links]:
    """From here on the schedulers call their engines through links of the test."""
    with linked(serai) as made:
        yield made


def test_a_paused_leader_changes_nothing(
    serai: SeraiCluster, links: Links, traffic: Traffic, tmp_path: Path
) -> None:
    paused = pause_leader(serai, links, project(tmp_path, "paused"), OUTAGE_S)
    assert not paused.changes and not paused.superfluous, paused


LEAST_WRONG = 10
WRONG = {
    "late": Faults(late_s=0.5),
    "doubled": Faults(doubled=1.0),
    "lost": Faults(lost=0.2),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_answers_go_wrong_while_a_deploy_and_two_scales_go_on(
    serai: SeraiCluster, links: Links, traffic: Traffic, tmp_path: Path, wrong: str
) -> None:
    links.wrong = 0
    with links.failing(WRONG[wrong]):
        assert change(serai, project(tmp_path, wrong)) == []
    assert links.wrong > LEAST_WRONG
