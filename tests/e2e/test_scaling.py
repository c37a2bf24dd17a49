"""Counts that follow real traffic: they grow, are explained, fall, and are set by hand."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from serai.clock import SystemClock
from tests.support.prometheus import RunningPrometheus
from tests.support.serai import Serai, call, write_predictor
from tests.support.wait import until

SLOW = """
import time
class Predictor:
    def predict(self, payload):
        time.sleep(0.3)
        return "done"
"""
OWN = """
import pathlib, time
class Policy:
    def decide(self, now_s, observation):
        if pathlib.Path(__file__).with_name("late").exists():
            time.sleep(60)
        return 2
def factory(config):
    return Policy()
"""
QUICK_TO_FALL = "autoscaling: {max_replicas: 4, hold: 5s, headroom: 0, down: {delay: 1s}}\n"
JSON = {"Content-Type": "application/json"}
CALLERS = 3


@contextmanager
def load(url: str, statuses: list[int]) -> Iterator[None]:
    """Call again and again from several threads, for the block."""
    done = threading.Event()

    def calls() -> None:
        while not done.is_set():
            statuses.append(call(url, b"{}", JSON).status)

    threads = [threading.Thread(target=calls) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def status(serai: Serai, api: str) -> dict[str, Any]:
    found: dict[str, Any] = serai.describe(api)["status"]
    return found


@pytest.mark.timeout(300)
def test_replicas_follow_the_traffic_and_it_is_told_why(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", SLOW, QUICK_TO_FALL))
    statuses: list[int] = []
    with load(f"{own.url}/hello", statuses):
        until(lambda: status(own, "hello")["ready"] >= 3, 60, what="three callers need three")
        until(lambda: status(own, "hello")["demand"] > 2.0, 30, what="their demand is seen")
        told = own.run("explain", "hello").stdout
        assert "hello is to have" in told and "Requests arrive at" in told
        top = own.run("top", "--once").stdout.splitlines()
        until(lambda: len(statuses) > 40, 30, what="enough is asked for to be replayed")
        assert top[0].split()[:3] == ["api", "status", "ready"] and "hello" in top[1]
    until(lambda: status(own, "hello")["ready"] == 1, 120, what="what is idle goes in a minute")
    assert set(statuses) == {200}
    found = json.loads(own.run("decisions", "hello", "-o", "json").stdout)["decisions"]
    counts = [(one["before"], one["wanted"]) for one in found]
    assert any(after > before for before, after in counts)
    assert any(after < before for before, after in counts)
    grown = next(one["at_s"] for one in found if one["wanted"] > one["before"])
    moment = own.run("explain", "hello", "--at", f"{int(SystemClock().wall() - grown)}s")
    assert "policy serai decides" in moment.stdout
    _replayed(own)


def _replayed(own: Serai) -> None:
    """What the callers asked for was kept, and is simulated under another rule."""
    done = own.run("replay", "hello", "--policy", "kpa", "--since", "15m", "-o", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    rows = {row["policy"]: row for row in answer["rows"]}
    assert set(rows) == {"as recorded", "serai as deployed", "kpa"}
    assert answer["requests"] > 20 and 0.2 < answer["service_s"] < 0.6
    assert rows["as recorded"]["most_replicas"] >= 3 and rows["kpa"]["replica_hours"] > 0.0
    shown = own.run("replay", "hello", "--set", "max_replicas=1").stdout.splitlines()
    assert "nothing is kept from before" in shown[0]
    assert any(line.startswith("serai max_replicas=1") for line in shown)


def test_a_count_that_was_set_stays_until_the_policy_may_decide(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", SLOW, QUICK_TO_FALL))
    done = own.run("scale", "hello", "--replicas", "2")
    assert done.stdout == (
        "hello is scaled to 2; `serai scale hello --auto` lets its policy decide again\n"
    )
    until(lambda: status(own, "hello")["ready"] == 2, 30)
    assert "`serai scale` has set that" in own.run("explain", "hello").stdout
    assert own.run("scale", "hello").returncode == 2
    assert own.run("scale", "hello", "--auto").stdout == "hello: its policy (serai) decides again\n"
    until(lambda: status(own, "hello")["ready"] == 1, 30, what="nothing was asked for")
    assert own.run("scale", "hello", "--replicas", "2").returncode == 0
    assert own.down() == 0
    own.up()
    until(lambda: status(own, "hello")["ready"] == 2, 60, what="it outlives a restart")
    assert status(own, "hello")["pinned"]


def test_what_is_asked_wrongly_is_told(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", SLOW, QUICK_TO_FALL))
    unknown = own.run("explain", "hell")
    assert unknown.returncode == 4 and "did you mean hello?" in unknown.stderr
    when = own.run("explain", "hello", "--at", "yesterday")
    assert when.returncode == 2 and "say how long ago, such as 10m" in when.stderr
    assert "no decision about hello is kept" in own.run("explain", "hello", "--at", "2d").stdout
    span = own.run("decisions", "hello", "--since", "long")
    assert span.returncode == 2 and "--since long" in span.stderr
    nothing = own.run("replay", "hello", "--policy", "kpa")
    assert nothing.returncode == 2 and "no request to hello is recorded" in nothing.stderr
    policy = own.run("replay", "hello", "--policy", "knative")
    assert policy.returncode == 2 and "there is no policy knative; there are" in policy.stderr
    long = own.run("replay", "hello", "--since", "8d")
    assert long.returncode == 2 and "traffic is kept for 7 days" in long.stderr
    assert "did you mean hello?" in own.run("replay", "hell").stderr
    outside = own.run("scale", "hello", "--replicas", "9")
    assert outside.returncode == 4 and "may have 1 to 4 replicas" in outside.stderr


def test_a_metric_asks_for_replicas_and_is_held_while_prometheus_is_away(
    own: Serai, tmp_path: Path
) -> None:
    metric = "autoscaling: {max_replicas: 4, metric: {promql: 'vector(150)', target: 50}}\n"
    project = write_predictor(tmp_path / "hello", SLOW, metric)
    refused = own.run("deploy", str(project), "--wait")
    assert refused.returncode != 0 and "serai up --prometheus" in refused.stdout + refused.stderr
    assert own.down() == 0
    prometheus = RunningPrometheus(tmp_path / "prometheus")
    try:
        until(prometheus.ready, 30, what="Prometheus is ready")
        own.up("--prometheus", prometheus.address)
        broken = write_predictor(tmp_path / "bad", SLOW, metric.replace("(150)", "(150"))
        told = own.run("deploy", str(broken), "--wait")
        assert told.returncode != 0 and "unclosed left parenthesis" in told.stdout + told.stderr
        own.deploy(project)
        until(lambda: status(own, "hello")["ready"] == 3, 60, what="it asks for three")
        words = "The metric asks for 3 replicas (value 150 at a target of 50 a replica)."
        assert words in own.run("explain", "hello").stdout
    finally:
        prometheus.end()
    assert own.down() == 0
    own.up("--prometheus", prometheus.address)
    until(lambda: status(own, "hello")["ready"] == 3, 60, what="what stood comes back")
    words = "Prometheus is not reached: cannot connect to 127.0.0.1"
    until(lambda: words in own.run("explain", "hello").stdout, 30, what="it is away")
    until(lambda: words in status(own, "hello")["reason"], 30, what="describe names it")
    assert status(own, "hello")["wanted"] == 3


def test_a_policy_of_ones_own_decides_and_its_faults_are_told(own: Serai, tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "mine.py").write_text(OWN)
    project = write_predictor(tmp_path / "hello", SLOW, "autoscaling: {policy: 'mine:factory'}\n")
    refused = own.run("deploy", str(project), "--wait")
    assert refused.returncode != 0 and "serai up --policies" in refused.stdout + refused.stderr
    assert own.down() == 0
    own.up("--policies", str(folder))
    own.deploy(project)
    until(lambda: status(own, "hello")["ready"] == 2, 60, what="it asks for two")
    assert "Its rule asks for 2 replicas." in own.run("explain", "hello").stdout
    (folder / "late").touch()
    words = "The last good one is held, which is 2 replicas."
    until(lambda: words in own.run("explain", "hello").stdout, 30, what="it hangs")
    assert status(own, "hello")["ready"] == 2
