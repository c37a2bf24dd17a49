"""A load sent through a real gateway to real replicas, and what came of it."""

import asyncio
import json
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from serai.decisions import DecisionList
from serai.model import TERMINAL, ReplicaState
from serai.wire import decode
from serai_scheduler.replay.system import Load
from tests.support.serai import Serai, serving, write_predictor
from tests.support.wait import until

API = "live"
ANSWER_LIMIT_S = 120.0
PREDICTOR = """
import asyncio, time
class Predictor:
    def __init__(self, config):
        time.sleep(config["load_s"])
    async def predict(self, payload):
        await asyncio.sleep(payload["runs_s"])
        return "done"
"""


@dataclass(frozen=True)
class Setup:
    """The API: its spec without the predictor's part, and how long a replica loads."""

    autoscaling: str
    slots: int
    queue: int
    load_s: float
    settle_s: float
    """How long it runs before the first request: the policy is told of it."""


@dataclass
class Live:
    """What came of it; `waits_s` are None for requests that were not answered with 200."""

    waits_s: list[float | None]
    replica_s: float
    most: int
    changes: int
    start_up_s: float
    sent_late_s: float
    """By how much the client sent a request too late at most."""

    def late(self, late_s: float) -> int:
        return sum(one is None or one > late_s for one in self.waits_s)


def measure(load: Load, setup: Setup) -> Live:
    """Deploy the API in a Serai of its own, send the load, and end it."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as serai:
        spec = (
            f"  config: {{load_s: {setup.load_s}}}\n"
            f"concurrency: {{per_replica: {setup.slots}, queue: {setup.queue}}}\n"
            f"autoscaling: {setup.autoscaling}\n"
        )
        serai.deploy(write_predictor(Path(folder) / "project", PREDICTOR, spec, name=API))
        overhead_s = _overhead_s(serai)
        time.sleep(setup.settle_s)
        watch = Watch(serai)
        began_s = time.monotonic()
        with watch:
            told = asyncio.run(_send(f"{serai.url}/{API}", load, began_s))
        kept = _decisions(serai)
        changes = [one for one in kept.decisions if one.before != one.wanted]
        return Live(
            waits_s=[None if one is None else one - overhead_s for one, _ in told],
            replica_s=watch.replica_s,
            most=watch.most,
            changes=len(changes),
            start_up_s=kept.decisions[0].start_up_s,
            sent_late_s=max(late_s for _, late_s in told),
        )


class Watch:
    """Adds up the replicas that there are, several times a second, for the block."""

    def __init__(self, serai: Serai) -> None:
        self.replica_s, self.most = 0.0, 0
        self._serai, self._done = serai, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        before_s = time.monotonic()
        while not self._done.wait(0.5):
            count = living(self._serai.describe(API))
            now_s = time.monotonic()
            self.replica_s += count * (now_s - before_s)
            self.most, before_s = max(self.most, count), now_s


def living(described: dict[str, Any]) -> int:
    """Return how many replicas there are; those that have ended stay listed for a while."""
    states = (ReplicaState(one["replica"]["state"]) for one in described["replicas"])
    return sum(state not in TERMINAL for state in states)


def _overhead_s(serai: Serai) -> float:
    """Return what an answer takes beyond the time that its request runs, nothing else going on."""

    async def ask() -> float:
        load = Load([0.05 * number for number in range(20)], [0.0] * 20)
        told = await _send(f"{serai.url}/{API}", load, time.monotonic())
        return sorted(one for one, _ in told if one is not None)[10]

    until(lambda: serai.describe(API)["status"]["state"] == "live", 60)
    return asyncio.run(ask())


def _decisions(serai: Serai) -> DecisionList:
    done = serai.run("decisions", API, "-n", "1000", "-o", "json")
    return decode(json.dumps(json.loads(done.stdout)), DecisionList)


async def _send(url: str, load: Load, began_s: float) -> list[tuple[float | None, float]]:
    """Send each request when it is due, whatever came of the others; return wait and lateness."""
    connector = aiohttp.TCPConnector(limit=0)
    limit = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:

        async def one(due_s: float, runs_s: float) -> tuple[float | None, float]:
            sent_late_s = time.monotonic() - due_s
            try:
                async with session.post(url, json={"runs_s": runs_s}) as response:
                    await response.read()
                    answered = response.status == 200
            except (aiohttp.ClientError, TimeoutError):
                answered = False
            return time.monotonic() - due_s - runs_s if answered else None, sent_late_s

        tasks = []
        for at_s, runs_s in zip(load.arrivals_s, load.services_s, strict=True):
            due_s = began_s + at_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            tasks.append(asyncio.ensure_future(one(due_s, runs_s)))
        return list(await asyncio.gather(*tasks))
