"""Serai on six machines: what a user does on one machine, done on a cluster."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster.machines import GATEWAYS
from tests.cluster.serai_cluster import SeraiCluster
from tests.support.serai import call, write_predictor
from tests.support.wait import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]


TOLD_LIMIT_S = 2.0 + 1.0
"""Two reports, and what a shared machine adds to that."""


def predictor(answer: str) -> str:
    return f"class Predictor:\n    def predict(self, payload):\n        return {answer!r}\n"


def ask(url: str) -> bytes:
    return call(url, b"{}", {"Content-Type": "application/json"}).body


def test_a_predictor_is_deployed_updated_and_answered_by_every_gateway(
    serai: SeraiCluster, tmp_path: Path
) -> None:
    bounds = "autoscaling: {policy: fixed, min_replicas: 2}\n"
    serai.deploy(write_predictor(tmp_path / "hello", predictor("one"), bounds, name="hello"))
    for gateway in serai.gateways:
        assert ask(f"{gateway}/hello") == b"one"
    described = serai.json("describe", "hello", through="server2")
    assert described["status"]["ready"] == 2
    serai.deploy(
        write_predictor(tmp_path / "hello", predictor("two"), bounds, name="hello"), "server3"
    )
    for gateway in serai.gateways:
        until(lambda g=gateway: ask(f"{g}/hello") == b"two")  # type: ignore[misc]
    logs = serai.run("logs", "hello", "--tail", "5")
    assert logs.returncode == 0 and "predictor ready" in logs.stdout
    assert serai.run("delete", "hello", "-y").returncode == 0
    until(lambda: serai.json("get")["apis"] == [], 60.0)
    assert len(GATEWAYS) == 2


def test_the_gateways_are_the_oldest_haproxy_and_the_wheels(serai: SeraiCluster) -> None:
    running = [serai.haproxy_version(name).split(".")[:2] for name in GATEWAYS]
    assert running == [["2", "6"], ["2", "8"]]
    told = {one["node"]: one["report"]["gateway"] for one in serai.json("nodes")["nodes"]}
    assert [told[name]["haproxy_version"].split(".")[:2] for name in GATEWAYS] == running


def test_the_doctor_tells_of_all_programs_and_nodes(serai: SeraiCluster) -> None:
    def told() -> str:
        return serai.run("doctor", through="server3").stdout

    until(lambda: "3600 s are allowed on every node" in told(), 60.0, told())
    lines = [" ".join(line.split()) for line in told().splitlines()]
    servers = ", ".join(f"server{number}" for number in (1, 2, 3))
    assert f"ok nomad Nomad 1.6.1 on {servers.replace(',', '.global,')}.global" in lines
    assert "ok clients Nomad 1.6.1 on client1, client2, client3" in lines
    assert [one for one in lines if one.startswith("ok consul Consul 1.15.4 on ")]
    assert "ok agents 3 report" in lines
    assert "ok clocks within 2 s on 3 nodes" in lines


def test_a_new_leader_is_told_what_was_asked_before_its_time(
    serai: SeraiCluster, tmp_path: Path
) -> None:
    code = (
        "import time\n\nclass Predictor:\n    def predict(self, payload):\n"
        "        time.sleep(3)\n        return 'done'\n"
    )
    spec = "concurrency: {per_replica: 8}\nautoscaling: {policy: fixed}\n"
    serai.deploy(write_predictor(tmp_path / "asked", code, spec, name="asked"))
    urls = [f"{gateway}/asked" for gateway in serai.gateways for _ in range(3)]
    with ThreadPoolExecutor(len(urls)) as clients:
        assert set(clients.map(ask, urls)) == {b"done"}

    def peak(through: str) -> int | None:
        with suppress(OSError):  # it may end, or not lead yet
            told = serai.ask(through, "/v1/apis/asked")
            return told.json().get("peak_15_min") if told.status == 200 else None
        return None

    first = serai.leader()
    until(lambda: peak(first) == len(urls), 10.0)
    serai.schedulers[first].kill()
    until(lambda: serai.leader() not in ("", first), 20.0)
    second = serai.leader()
    # Each gateway tells that it is there, then what it knows: two reports, a second apart.
    until(lambda: peak(second) == len(urls), TOLD_LIMIT_S, serai.logs)
    serai.schedulers[first].start()
    until(lambda: serai.serves("asked", 1), 30.0)
    assert serai.run("delete", "asked", "-y").returncode == 0
    until(lambda: serai.json("get")["apis"] == [], 60.0)


def test_bundles_outlive_the_leader_and_its_folder(serai: SeraiCluster, tmp_path: Path) -> None:
    """Each scheduler has a folder of its own, and a majority holds what was uploaded."""
    project = write_predictor(tmp_path / "kept", predictor("kept one"), name="kept")
    serai.deploy(project)
    first = serai.leader()
    serai.schedulers[first].kill()
    shutil.rmtree(serai.blobs_of(first))
    until(lambda: serai.leader() not in ("", first), 30.0)
    (other,) = {one.name for one in serai.machines.servers} - {first, serai.leader()}
    before = blobs_in(serai, other)
    write_predictor(tmp_path / "kept", predictor("kept two"), name="kept")
    serai.deploy(project, through=other)
    for gateway in serai.gateways:
        until(lambda g=gateway: ask(f"{g}/kept") == b"kept two")  # type: ignore[misc]
    sent = blobs_in(serai, other) - before
    assert len(sent) >= 2, "a manifest and a file: with one of three away, both others have them"
    assert sent <= blobs_in(serai, serai.leader())
    serai.schedulers[first].start()
    until(lambda: sent <= blobs_in(serai, first), 60.0, f"not filled: {serai.logs()}")
    assert serai.run("delete", "kept", "-y", through=first).returncode == 0
    until(lambda: serai.json("get", through=first)["apis"] == [], 60.0)


def test_with_two_schedulers_away_a_deploy_is_refused_and_what_runs_stays(
    serai: SeraiCluster, tmp_path: Path
) -> None:
    project = write_predictor(tmp_path / "stays", predictor("stays"), name="stays")
    serai.deploy(project)
    left, *away = [one.name for one in serai.machines.servers]
    for name in away:
        serai.schedulers[name].kill()
    until(lambda: serai.leader() == left, 30.0)
    write_predictor(tmp_path / "stays", predictor("comes later"), name="stays")
    refused = serai.run("deploy", str(project), "--wait", "-y", through=left)
    told = " ".join((refused.stdout + refused.stderr).split())
    assert refused.returncode == 3
    assert "1 of 3 schedulers can" in told and "Bring the others back and deploy again" in told
    for gateway in serai.gateways:
        assert ask(f"{gateway}/stays") == b"stays"
    for name in away:
        serai.schedulers[name].start()
    for name in away:
        until(lambda n=name: serai.run("get", through=n).returncode == 0, 30.0)  # type: ignore[misc]
    serai.deploy(project, through=away[0])
    for gateway in serai.gateways:
        until(lambda g=gateway: ask(f"{g}/stays") == b"comes later")  # type: ignore[misc]
    assert serai.run("delete", "stays", "-y").returncode == 0
    until(lambda: serai.json("get")["apis"] == [], 60.0)


def blobs_in(serai: SeraiCluster, server: str) -> set[str]:
    return {path.name for path in serai.blobs_of(server).glob("*/*") if "#" not in path.name}
