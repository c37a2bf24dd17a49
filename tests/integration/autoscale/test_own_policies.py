"""Policies of one's own in their real child processes: what they answer, and how they fail."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from serai.clock import SystemClock
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec, Pod
from serai.supervisor import every
from serai_scheduler.autoscale.outside import MAX_OWN_POLICIES, Outside, OutsideSettings
from serai_scheduler.autoscale.own.answers import Observation, config_of
from serai_scheduler.autoscale.own.runner import OwnPolicies, PolicyRunner

ROOT = Path(__file__).parents[3]
SEEN: Observation = {
    "elapsed_s": 1.0,
    "arrivals": 4,
    "completions": 4,
    "in_flight": 12,
    "queued": 0,
    "ready": 2,
    "starting": 0,
    "max_concurrency": 4.0,
    "start_up_s": 10.0,
    "queue_limit": 100,
    "min_replicas": 1,
    "max_replicas": 10,
    "target_in_flight": 4.0,
    "standing": 2,
}
POLICIES = """
import os, sys, time

class Policy:
    def __init__(self, decide):
        self.decide = decide

def three(config):
    print("not an answer", flush=True)
    return Policy(lambda now_s, observation: 3)

def raises(config):
    return Policy(lambda now_s, observation: 1 / 0)

def nonsense(config):
    return Policy(lambda now_s, observation: float("nan"))

def huge(config):
    return Policy(lambda now_s, observation: 10**5000)

def leaves(config):
    return Policy(lambda now_s, observation: sys.exit(7))

def greedy(config):
    return Policy(lambda now_s, observation: len(bytearray(2**32)))

def asleep(config):
    return Policy(lambda now_s, observation: time.sleep(3600))

def busy(config):
    def decide(now_s, observation):
        while True:
            pass
    return Policy(decide)

def secrets(config):
    return Policy(lambda now_s, observation: sum("SECRET" in name for name in os.environ))

def undecided(config):
    return object()

def refuses(config):
    raise ValueError("no " + config["api"])
"""


def spec(policy: str, name: str = "iris") -> ApiSpec:
    scaling = Autoscaling(policy=policy)
    return ApiSpec(name=name, pod=Pod(command=("serve",)), autoscaling=scaling)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(POLICIES)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    return str(tmp_path)


@asynccontextmanager
async def running(policies: OwnPolicies) -> AsyncIterator[None]:
    task = asyncio.ensure_future(policies.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def alive(pid: int | None) -> bool:
    return Path(f"/proc/{pid}").exists()


async def until(what: Callable[[], Any], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not what():
            await SystemClock().sleep(0.01)


async def asked(runner: PolicyRunner) -> tuple[int | None, str]:
    """Return what is said once the next question was answered, or not."""
    before = runner.said
    await until(lambda: runner.ask(0.0, SEEN))
    await until(lambda: runner.said is not before)
    assert runner.said is not None
    return runner.said.count, runner.said.fault


def policies_in(folder: str) -> OwnPolicies:
    return OwnPolicies(SystemClock(), Random(1), folder)


async def test_it_is_asked_and_its_count_taken(folder: str) -> None:
    policies = policies_in(folder)
    async with running(policies):
        runner = policies.make("mine:three", config_of(spec("mine:three")))
        assert runner.said is None and not runner.ask(0.0, SEEN), "not before it is made"
        for _ in range(3):
            assert await asked(runner) == (3, "")
        assert runner.children_started == 1


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("raises", "it raised ZeroDivisionError: division by zero"),
        ("nonsense", "it answered nan, which is no whole number"),
        ("huge", "it answered a number of more than 12 digits, which is no whole number"),
        ("leaves", "its process ended with exit code 7"),
        ("greedy", "it raised MemoryError: "),
        ("asleep", "it gave no answer within 0.5 s"),
        ("busy", "it gave no answer within 0.5 s"),
    ],
)
async def test_what_goes_wrong_is_told(folder: str, name: str, fault: str) -> None:
    policies = policies_in(folder)
    async with running(policies):
        runner = policies.make(f"mine:{name}", config_of(spec(f"mine:{name}")))
        assert await asked(runner) == (None, fault.strip())


async def test_one_that_hangs_is_killed_started_again_and_late_for_nobody_else(folder: str) -> None:
    policies, late = policies_in(folder), []

    async def tick() -> None:
        bad.ask(0.0, SEEN)
        good.ask(0.0, SEEN)

    async with running(policies):
        bad = policies.make("mine:busy", config_of(spec("mine:busy", "bad")))
        good = policies.make("mine:three", config_of(spec("mine:three", "good")))
        await until(lambda: bad.child_pid)
        first = bad.child_pid
        assert first is not None
        ticks = asyncio.ensure_future(
            every(SystemClock(), 0.05, tick, lambda late_s, missed: late.append(late_s))
        )
        await until(lambda: bad.children_started >= 2 and bad.child_pid != first)
        await until(lambda: good.said is not None and good.said.count == 3)
        ticks.cancel()
        assert good.children_started == 1
        assert not alive(first)
    assert sorted(late)[int(0.9 * len(late))] < 0.1


async def test_children_end_with_their_api_and_with_the_scheduler(folder: str) -> None:
    policies = policies_in(folder)
    async with running(policies):
        one, two = (
            policies.make("mine:three", config_of(spec("mine:three", name)))
            for name in ("one", "two")
        )
        await until(lambda: one.child_pid and two.child_pid)
        pids = (one.child_pid, two.child_pid)
        policies.keep({"two"})
        await until(lambda: not alive(pids[0]))
        assert alive(pids[1])
        again = policies.make("mine:three", config_of(spec("mine:three", "two")))
        await until(lambda: not alive(pids[1]))
        assert await asked(again) == (3, "")
        last = again.child_pid
    assert not alive(last)


def test_a_busy_child_ends_with_a_parent_that_is_killed(folder: str) -> None:
    child = ROOT / "scheduler/serai_scheduler/autoscale/own/child.py"
    process = subprocess.Popen(
        [sys.executable, "-P", str(child), folder, "mine:busy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin and process.stdout
    with process:
        process.stdin.write(b'{"number":1,"config":{}}\n{"number":2,"now_s":0,"observation":{}}\n')
        process.stdin.flush()
        assert process.stdout.readline() == b'{"number": 1, "count": 0}\n'
        process.stdin.close()  # as the kernel does for a parent that is gone
        assert process.wait(10.0) == 0


async def test_it_does_not_see_the_schedulers_environment(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "token")
    assert "A_SECRET" in os.environ
    policies = policies_in(folder)
    async with running(policies):
        runner = policies.make("mine:secrets", config_of(spec("mine:secrets")))
        assert await asked(runner) == (0, "")


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("mine:three", ""),
        ("mine:nobody", "AttributeError: module 'mine' has no attribute 'nobody'"),
        ("absent:factory", "ModuleNotFoundError: No module named 'absent'"),
        ("broken:factory", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("mine:refuses", "ValueError: no iris"),
        ("mine:undecided", "TypeError: mine:undecided returned object, which has no decide()"),
    ],
)
async def test_a_deploy_is_refused_for_one_that_cannot_be_made(
    folder: str, policy: str, why: str
) -> None:
    outside = Outside(OutsideSettings(policies=folder), SystemClock(), Random(1))
    told = [str(problem) for problem in await outside.problems([spec(policy)], [])]
    if not why:
        assert told == []
    else:
        assert len(told) == 1 and f"it raised {why}" in told[0] and folder in told[0]


async def test_a_deploy_is_refused_without_a_folder_or_above_the_bound(folder: str) -> None:
    nowhere = Outside(OutsideSettings(), SystemClock(), Random(1))
    (told,) = await nowhere.problems([spec("mine:three"), spec("kpa", "other")], [])
    assert "`policies` in `[autoscaling]`" in str(told) and "serai up --policies" in str(told)
    some = Outside(OutsideSettings(policies=folder), SystemClock(), Random(1))
    present = [spec("mine:three", f"api{number}") for number in range(MAX_OWN_POLICIES)]
    (told,) = await some.problems([spec("mine:three")], present)
    assert f"at most {MAX_OWN_POLICIES} may" in str(told)
    assert await some.problems([spec("mine:three", "api0")], present) == (), "one of them, anew"


async def test_the_example_holds_what_it_needed() -> None:
    policies = policies_in(str(ROOT / "examples" / "policy"))
    async with running(policies):
        runner = policies.make("steady:factory", config_of(spec("steady:factory")))
        assert await asked(runner) == (3, ""), "12 in flight, 4 a replica"


async def test_a_policy_for_the_simulator_runs_as_it_is() -> None:
    """`bench/autoscale_policy.py` is one: Serai's own rule, made for an outside simulator."""
    policies = policies_in(str(ROOT / "bench"))
    async with running(policies):
        target = "autoscale_policy:factory"
        runner = policies.make(target, config_of(spec(target)))
        count, fault = await asked(runner)
        assert fault == "" and count is not None and count >= 1
