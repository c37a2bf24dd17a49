"""An API that falls asleep: it is woken by hand and by requests, and none of them is lost."""

import json
import threading
from collections import Counter
from pathlib import Path
from random import Random
from urllib.request import Request, urlopen

import pytest

from serai.clock import SystemClock
from tests.support.serai import Serai, call, write_predictor
from tests.support.wait import until

HELLO = """
class Predictor:
    def predict(self, payload):
        return "done"
"""
SLEEPS = "autoscaling: {min_replicas: 0, max_replicas: 2, idle_to_zero: 10s}\n"
MANY = "concurrency: {queue: 2000, queue_timeout: 120s}\n"
JSON = {"Content-Type": "application/json"}
AT_ONCE = 1000


def asleep(serai: Serai) -> None:
    until(lambda: serai.describe("hello")["status"]["ready"] == 0, 60, what="it falls asleep")


@pytest.mark.timeout(300)
def test_it_is_woken_by_hand_with_its_phases(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", HELLO, SLEEPS))
    asleep(own)
    lines = own.run("wake", "hello").stdout.splitlines()
    assert lines[-1] == "hello is ready" and len(lines) >= 2
    assert own.describe("hello")["status"]["ready"] == 1
    assert own.run("wake", "hello").stdout == "hello is ready\n"


@pytest.mark.timeout(300)
def test_callers_wake_it_and_follow_it_at_the_gateway(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", HELLO, SLEEPS))
    asleep(own)
    assert own.run("wake", "hello").returncode == 0
    asleep(own)
    url = f"{own.url}/hello/_serai/wake"
    with urlopen(Request(url, headers={"Accept": "text/event-stream"}), timeout=120) as stream:
        lines = stream.read().decode().splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    states = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data:")]
    assert names[-1] == "ready" and set(names[:-1]) == {"progress"}
    assert states[0]["eta_s"] > 0.0, "its start has been seen"
    assert [one["elapsed_s"] for one in states] == sorted(one["elapsed_s"] for one in states)
    assert call(url).json()["phase"] == "ready"
    assert own.describe("hello")["status"]["ready"] == 1
    own.run("scale", "hello", "--replicas", "0")
    asleep(own)
    refused = call(url)
    assert (refused.status, refused.json()["error"]["code"]) == (409, "not_woken")
    told = own.run("wake", "hello")
    assert told.returncode == 4 and "serai scale hello --auto" in told.stderr


@pytest.mark.timeout(300)
def test_requests_around_the_fall_are_answered(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", HELLO, SLEEPS))
    rng, statuses = Random(1), Counter[int]()
    for _ in range(8):
        threading.Event().wait(rng.uniform(8.0, 14.0))
        statuses[call(f"{own.url}/hello", b"{}", JSON).status] += 1
    assert statuses == {200: 8}


@pytest.mark.timeout(300)
def test_a_thousand_requests_at_once_wake_it(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", HELLO, SLEEPS + MANY))
    asleep(own)
    statuses, began_s = [], SystemClock().now()

    def one() -> None:
        statuses.append(call(f"{own.url}/hello", b"{}", JSON).status)

    threads = [threading.Thread(target=one) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(statuses) == {200: AT_ONCE}
    assert SystemClock().now() - began_s < 120.0
