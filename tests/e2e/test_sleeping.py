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
WHO = """
import os

class Predictor:
    def predict(self, payload):
        return os.getpid()
"""
STREAM_S = 40.0
STREAM = f"""
import os, time

class Predictor:
    def predict(self, payload):
        yield f"{{os.getpid()}}\\n"
        for part in (5, 25, 10):
            time.sleep(part * {STREAM_S} / 40)
            yield "\\n"
        yield f"end {{os.getpid()}}\\n"
"""
FALLS, MOST_FALLS = 2, 9
SLEEPS = "autoscaling: {min_replicas: 0, max_replicas: 2, idle_to_zero: 10s}\n"
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


def falling(serai: Serai) -> bool:
    """Say whether the last replica is to go, and has not ended yet."""
    described = serai.describe("hello")
    states = {one["replica"]["state"] for one in described["replicas"]}
    return described["status"]["wanted"] == 0 and not states.isdisjoint({"ready", "draining"})


@pytest.mark.timeout(300)
def test_requests_in_the_middle_of_a_fall_are_held_and_answered(own: Serai, tmp_path: Path) -> None:
    """Driven until some came during a fall: those were held, and answered by the next replica."""
    own.deploy(write_predictor(tmp_path / "hello", WHO, SLEEPS))
    rng, statuses, held = Random(1), Counter[int](), 0

    def ask() -> int:
        answer = call(f"{own.url}/hello", b"{}", JSON)
        statuses[answer.status] += 1
        return int(answer.json())

    for _ in range(MOST_FALLS):
        before = ask()
        until(lambda: falling(own), 60, what="its last replica is to go")
        threading.Event().wait(rng.uniform(0.0, 0.2))
        held += ask() != before
        if held == FALLS:
            break
    assert set(statuses) == {200}
    assert held == FALLS, "arrivals during falls that the replica on its way out did not answer"


@pytest.mark.timeout(300)
def test_requests_around_the_moment_of_a_fall_are_answered(own: Serai, tmp_path: Path) -> None:
    """Driven until the API has fallen some times, with requests at random about when it does."""
    own.deploy(write_predictor(tmp_path / "hello", WHO, SLEEPS))
    rng, statuses, replicas = Random(2), Counter[int](), set[int]()
    while len(replicas) <= FALLS and statuses.total() < MOST_FALLS:
        answer = call(f"{own.url}/hello", b"{}", JSON)
        statuses[answer.status] += 1
        replicas.add(int(answer.json()))
        threading.Event().wait(rng.uniform(9.5, 12.5))
    assert set(statuses) == {200}
    assert len(replicas) > FALLS, "it fell, and was woken by the next request"


@pytest.mark.timeout(300)
def test_a_stream_keeps_it_awake_until_its_end(own: Serai, tmp_path: Path) -> None:
    """It lasts for several times of `idle_to_zero`, silent for longer than that in between."""
    own.deploy(
        write_predictor(
            tmp_path / "hello", STREAM, SLEEPS.replace("max_replicas: 2", "max_replicas: 1")
        )
    )
    with urlopen(Request(f"{own.url}/hello", b"{}", JSON), timeout=120) as stream:
        who, began_s = stream.readline(), SystemClock().now()
        until(lambda: own.describe("hello")["status"]["traffic"]["in_flight"] == 1)
        while SystemClock().now() - began_s < STREAM_S - 5.0:
            status = own.describe("hello")["status"]
            assert (status["ready"], status["wanted"]) == (1, 1), status
            assert status["traffic"]["in_flight"] == 1
            threading.Event().wait(0.5)
        rest = stream.read().splitlines()
    assert rest[-1] == b"end " + who.strip(), "all of it, from one and the same replica"
    assert own.describe("hello")["status"]["ready"] == 1, "the time without a request begins here"
    asleep(own)


@pytest.mark.timeout(300)
def test_a_thousand_requests_at_once_wake_it(own: Serai, tmp_path: Path) -> None:
    own.deploy(write_predictor(tmp_path / "hello", HELLO, SLEEPS))
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
