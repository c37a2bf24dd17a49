"""The engine of a cluster on a real Nomad: faults, fencing, and what only Nomad can do."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from serai.engine import LogQuery
from serai.errors import Refused, Unavailable
from serai.model import Replica, ReplicaState, Version
from serai.spec.types import Compute
from serai.units import Size
from serai_scheduler.nomad.engine import NomadEngine
from serai_scheduler.nomad.names import job_id, job_name
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.snapshot import NOT_PLACED_YET
from tests.cluster.nomad import NomadAgent, nomad
from tests.integration.local.world import (
    all_lines,
    ask,
    ask_rudely,
    in_state,
    ready,
    replica_of,
    told,
)
from tests.support.losing_proxy import losing_proxy
from tests.support.nomad_engine import end_jobs, engine_of, job_settings, nomad_engine_on, version
from tests.support.rewriting_proxy import rewriting_proxy
from tests.support.wait import auntil
from tests.unit.nomad.test_job import changed

pytestmark = pytest.mark.engines

EXPLAINED = "more than any node has in all"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadAgent]:
    with nomad(tmp_path_factory.mktemp("nomad")) as made:
        yield made


@pytest.fixture
def settings(agent: NomadAgent, tmp_path: Path) -> Iterator[JobSettings]:
    made = job_settings(tmp_path / "cache")
    yield made
    end_jobs(agent, made.prefix)


def name_of(version: Version, number: int = 1) -> str:
    return f"{version.api}.{version.name}.{number}"


def allocations(agent: NomadAgent, settings: JobSettings, version: Version) -> list[str]:
    """Return the group of each allocation of a version that runs or ever ran."""
    job = job_id(settings.prefix, job_name(version))
    return sorted(one["TaskGroup"] for one in agent.allocations(job))


ONE = version()
FIRST, SECOND = name_of(ONE), name_of(ONE, 2)


async def test_a_process_that_dies_is_started_again_in_place(
    agent: NomadAgent, tmp_path: Path
) -> None:
    async with nomad_engine_on(agent, tmp_path, restarts=2, restart_delay_s=0.1) as engine:
        await engine.start([FIRST], ONE, epoch=1)
        before = await ready(engine, FIRST)
        await ask_rudely(before, "/exit?7")
        await auntil(lambda: restarted(engine, FIRST))
        after = await ready(engine, FIRST)
        assert after.restarts == 1 and after.servers == before.servers
        assert after.created_at_s == before.created_at_s, "it is another allocation"


def time_to_end_s(agent: NomadAgent, settings: JobSettings) -> dict[str, float]:
    """Return how long each replica of the job may take to end."""
    held = agent.call("GET", f"/job/{job_id(settings.prefix, job_name(ONE))}")
    return {
        group["Name"]: task["KillTimeout"] / 1e9
        for group in held["TaskGroups"]
        for task in group["Tasks"]
        if task["Name"] == "replica"
    }


async def test_a_changed_drain_time_reaches_a_job_while_its_replicas_run_on(
    agent: NomadAgent, tmp_path: Path
) -> None:
    settings = job_settings(tmp_path / "cache", max_kill_timeout_s=1000.0)
    job = job_id(settings.prefix, job_name(ONE))
    try:
        async with engine_of(agent, settings) as engine:
            await engine.start([FIRST], ONE, 1, drain_s=20)
            first = await ready(engine, FIRST)
            assert time_to_end_s(agent, settings) == {"1": 25}
            (before,) = agent.allocations(job)
            await engine.grant(ONE, 900, epoch=1)
            await engine.grant(ONE, 900, epoch=1)
            assert time_to_end_s(agent, settings) == {"1": 905}
            assert agent.call("GET", f"/job/{job}")["Version"] == 1, "it was registered again"
            await engine.start([SECOND], ONE, 1, drain_s=5000)
            await ready(engine, SECOND)
            assert time_to_end_s(agent, settings) == {"1": 1000, "2": 1000}
            kept = next(one for one in agent.allocations(job) if one["TaskGroup"] == "1")
            assert kept["ID"] == before["ID"]
            assert kept["TaskStates"]["replica"]["Restarts"] == 0
            assert await replica_of(engine, FIRST) == first
    finally:
        end_jobs(agent, settings.prefix)


async def test_a_task_that_runs_keeps_the_time_that_it_was_started_with(
    agent: NomadAgent, tmp_path: Path
) -> None:
    """The job says otherwise: Nomad hands it to its driver when the task starts."""
    stubborn = version(STUBBORN="1")
    name = name_of(stubborn)
    async with nomad_engine_on(agent, tmp_path, max_kill_timeout_s=1000.0) as engine:
        await engine.start([name], stubborn, 1, drain_s=0)
        await ready(engine, name)
        await engine.grant(stubborn, 900, epoch=1)
        await engine.stop([name], 0.0, epoch=1)
        ended = await in_state(engine, name, ReplicaState.STOPPED)
        assert ended.reason.startswith("killed: it had not ended")


async def restarted(engine: NomadEngine, replica: str) -> bool:
    return (await replica_of(engine, replica)).restarts == 1


async def test_one_that_fits_on_no_node_says_why_and_is_placed_when_it_can_be(
    agent: NomadAgent, settings: JobSettings
) -> None:
    large = changed(version(number=2), compute=Compute(mem=Size(2**50)))
    async with engine_of(agent, settings) as engine:
        name = name_of(large)
        await engine.start([name], large, epoch=1)
        first_told = (await replica_of(engine, name)).reason
        assert first_told == NOT_PLACED_YET or EXPLAINED in first_told, "as soon as Nomad says it"

        async def explained() -> bool:
            return EXPLAINED in (await replica_of(engine, name)).reason

        await auntil(explained, 10.0)
        assert (await replica_of(engine, name)).state is ReplicaState.PENDING
        # A node that drains: the same replica waits, with the reason, until there is a node again.
        await engine.start([FIRST], ONE, epoch=1)
        first = await ready(engine, FIRST)
        (node,) = agent.call("GET", "/nodes")
        drain = {"DrainSpec": {"Deadline": -1}, "MarkEligible": False}
        agent.call("POST", f"/node/{node['ID']}/drain", drain)
        try:
            await auntil(lambda: waits_for_a_node(engine, FIRST), 10.0)
            assert (await replica_of(engine, FIRST)).servers == ()
        finally:
            back = {"DrainSpec": None, "MarkEligible": True}
            agent.call("POST", f"/node/{node['ID']}/drain", back)
        again = await ready(engine, FIRST)
        assert again.created_at_s > first.created_at_s and len(again.servers) == 1


async def waits_for_a_node(engine: NomadEngine, replica: str) -> bool:
    found = await replica_of(engine, replica)
    return found.state is ReplicaState.PENDING and "no node takes replicas" in found.reason


async def test_whoever_does_not_lead_any_more_changes_nothing(
    agent: NomadAgent, settings: JobSettings
) -> None:
    leads = [True]
    async with (
        engine_of(agent, settings, leading=lambda: leads[0]) as old,
        engine_of(agent, settings) as new,
    ):
        await old.start([FIRST], ONE, epoch=1)
        await ready(new, FIRST)
        await new.stop([SECOND], 1.0, epoch=2)
        leads[0] = False
        for order in (old.start([SECOND], ONE, epoch=1), old.stop([FIRST], 1.0, epoch=1)):
            with pytest.raises(Refused) as caught:
                await order
            assert caught.value.code == "fenced"
        with pytest.raises(Refused) as caught:
            await new.start([SECOND], ONE, epoch=1)
        assert caught.value.code == "fenced"
        assert (await replica_of(new, FIRST)).state is ReplicaState.READY
        assert allocations(agent, settings, ONE) == ["1"]


async def test_an_order_from_an_old_sight_is_refused(
    agent: NomadAgent, settings: JobSettings
) -> None:
    """A leader that stood still between its look and its order, and does not know it yet."""
    asked, goes_on = threading.Event(), threading.Event()

    def deluded() -> bool:
        if threading.current_thread() is threading.main_thread():
            return True  # it is asked before it looks, too
        asked.set()
        return goes_on.wait(20.0)

    async with (
        engine_of(agent, settings, leading=deluded) as old,
        engine_of(agent, settings) as new,
    ):
        await ready_first(new)
        await ready(old, FIRST)
        late = asyncio.create_task(old.stop([FIRST], 1.0, epoch=1))
        await auntil(asked.is_set)
        await new.start([SECOND], ONE, epoch=2)
        goes_on.set()
        with pytest.raises(Unavailable, match="changed by somebody else"):
            await late
        await ready(new, SECOND)
        assert (await replica_of(new, FIRST)).state is ReplicaState.READY


async def ready_first(engine: NomadEngine) -> Replica:
    await engine.start([FIRST], ONE, epoch=1)
    return await ready(engine, FIRST)


async def test_an_order_whose_answer_is_lost_starts_nothing_twice(
    agent: NomadAgent, settings: JobSettings
) -> None:
    async with (
        losing_proxy(agent.port, b"POST /v1/jobs") as proxy,
        engine_of(agent, settings, port=proxy.port) as engine,
    ):
        await ready_first(engine)
        start, stop = partial(engine.start, [SECOND], ONE), partial(engine.stop, [FIRST], 1.0)
        orders: tuple[Callable[[int], Awaitable[None]], ...] = (start, stop)
        for order in orders:
            proxy.lose, before = 1, proxy.passed
            with pytest.raises(Unavailable):
                await order(1)
            assert proxy.passed == before + 1, "it was repeated unasked"
            # Given again, it is refused for its old index until it is known to be done.
            await auntil(partial(accepted, order), 10.0)
        await ready(engine, SECOND)
        await in_state(engine, FIRST, ReplicaState.STOPPED)
        assert allocations(agent, settings, ONE) == ["1", "2"]


async def accepted(order: Callable[[int], Awaitable[None]]) -> bool:
    try:
        await order(1)
    except Unavailable:
        return False
    return True


async def test_a_nomad_that_is_away_is_no_empty_one(
    agent: NomadAgent, settings: JobSettings
) -> None:
    async with engine_of(agent, settings) as engine:
        replica = await ready_first(engine)
        agent.pause()
        try:
            await auntil(lambda: away(engine), 20.0)
            with pytest.raises(Unavailable):
                await engine.start([SECOND], ONE, epoch=1)
        finally:
            agent.resume()
        await auntil(lambda: answers(engine), 20.0)
        assert await ready(engine, FIRST) == replica


async def answers(engine: NomadEngine) -> bool:
    try:
        return bool(await engine.observe())
    except Unavailable:
        return False


async def test_a_nomad_that_was_started_anew_is_followed_again(tmp_path: Path) -> None:
    with nomad(tmp_path / "own") as own:
        settings = job_settings(tmp_path / "cache")
        moved = asyncio.Event()
        async with engine_of(own, settings, changed=moved.set) as engine:
            replica = await ready_first(engine)
            said = await told(replica)
            own.kill()
            await auntil(lambda: away(engine), 20.0)
            moved.clear()
            await asyncio.to_thread(own.start)
            await auntil(lambda: answers(engine), 20.0)
            assert moved.is_set()
            again = await ready(engine, FIRST)
            assert (await told(again))["pid"] == said["pid"], "its process went on"
            await engine.start([SECOND], ONE, epoch=1)
            await ready(engine, SECOND)
        await asyncio.to_thread(end_jobs, own, settings.prefix)


async def away(engine: NomadEngine) -> bool:
    return not await answers(engine)


async def test_what_failed_is_taken_out_of_the_job_and_still_tells_why(
    agent: NomadAgent, settings: JobSettings
) -> None:
    """Nomad would start it again when it has forgotten the allocation, hours later."""
    job = job_id(settings.prefix, job_name(ONE))
    async with engine_of(agent, settings) as engine:
        await engine.start([FIRST, SECOND], ONE, epoch=1)
        await ready(engine, SECOND)
        await ask_rudely(await ready(engine, FIRST), "/exit?7")
        failed = await in_state(engine, FIRST, ReplicaState.FAILED)
        await auntil(lambda: groups(agent, job) == ["2"], 15.0)
        assert await replica_of(engine, FIRST) == failed and failed.log_tail[-1] == "leaving now"
        os.kill(int(str((await told(await ready(engine, SECOND)))["pid"])), signal.SIGKILL)
        await in_state(engine, SECOND, ReplicaState.FAILED)
        await auntil(lambda: agent.call("GET", f"/job/{job}")["Stop"], 15.0)
        third = name_of(ONE, 3)
        await engine.start([third], ONE, epoch=1)
        await ready(engine, third)
        assert allocations(agent, settings, ONE) == ["1", "2", "3"]


async def test_the_last_lines_come_however_slow_nomad_is(
    agent: NomadAgent, settings: JobSettings
) -> None:
    """Several answers are needed for them; until they are there, it is told that they come."""
    async with (
        losing_proxy(agent.port, b"POST /v1/jobs") as proxy,
        engine_of(agent, settings, port=proxy.port) as engine,
    ):
        first = await ready_first(engine)
        proxy.late_s = 0.8
        await ask_rudely(first, "/exit?7")
        seen: list[Replica] = []

        async def failed_with_lines() -> bool:
            seen.append(await replica_of(engine, FIRST))
            return bool(seen[-1].log_tail)

        await auntil(failed_with_lines, 30.0)
        failed = [one for one in seen if one.state is ReplicaState.FAILED]
        assert failed[0].telling and not failed[0].log_tail, "it was not slow"
        assert all(one.telling for one in failed[:-1]) and not failed[-1].telling
        assert failed[-1].log_tail[-1] == "leaving now"
        assert failed[-1].reason == "exit code 7: leaving now"


def groups(agent: NomadAgent, job: str) -> list[str]:
    return [group["Name"] for group in agent.call("GET", f"/job/{job}")["TaskGroups"]]


async def test_logs_are_read_across_rotated_files(agent: NomadAgent, tmp_path: Path) -> None:
    async with nomad_engine_on(agent, tmp_path, log_file_mib=1, log_files=3) as engine:
        replica = await ready_first(engine)
        await ask(replica, f"/many?30000,{'x' * 60}")  # two files and a bit

        async def whole() -> bool:
            last = await all_lines(engine, LogQuery(api="api", tail=1))
            return [line.text for line in last] == [f"{'x' * 60} 29999"]

        await auntil(whole, 20.0)
        lines = await all_lines(engine, LogQuery(api="api", grep="xxx"))
        assert [line.text.split()[1] for line in lines] == [str(n) for n in range(30000)]
        tail = await all_lines(engine, LogQuery(api="api", tail=20_000, grep="xxx"))
        assert [line.text for line in tail] == [line.text for line in lines[-10_000:]]


async def test_a_job_by_hand_is_taken_up(agent: NomadAgent, settings: JobSettings) -> None:
    """Groups that are not ours stay; a count that an operator changed is one again."""
    job = job_id(settings.prefix, job_name(ONE))
    async with engine_of(agent, settings) as engine:
        await ready_first(engine)
        held = agent.call("GET", f"/job/{job}")
        (group,) = held["TaskGroups"]
        silent = [{**task, "Services": []} for task in group["Tasks"]]
        theirs = {**group, "Name": "by-hand", "Tasks": silent}
        held["TaskGroups"] = [theirs, {**group, "Count": 2}, {**group, "Name": "5"}]
        agent.register(held, held["JobModifyIndex"])
        await ready(engine, name_of(ONE, 5))
        await engine.start([name_of(ONE, 6)], ONE, epoch=1)
        await ready(engine, name_of(ONE, 6))
        counts = {g["Name"]: g["Count"] for g in agent.call("GET", f"/job/{job}")["TaskGroups"]}
        assert counts == {"1": 1, "by-hand": 1, "5": 1, "6": 1}
        assert {r.id.rpartition(".")[2] for r in await engine.observe()} == {"1", "5", "6"}


async def test_a_count_by_hand_is_set_back_and_the_replica_is_seen_again(
    agent: NomadAgent, settings: JobSettings
) -> None:
    one = version(name="v1-aaaaaaaa")
    async with engine_of(agent, settings) as engine:
        await engine.start([name_of(one)], one, 0)
        await auntil(lambda: is_ready(engine, name_of(one)))
        job = f"{settings.prefix}-{one.api}--{one.name}"
        scaled = {"Count": 3, "Target": {"Group": "1"}}
        agent.call("POST", f"/job/{job}/scale", scaled)
        assert [g["Count"] for g in agent.call("GET", f"/job/{job}")["TaskGroups"]] == [3]

        async def alone() -> bool:
            found = agent.call("GET", f"/job/{job}/allocations")
            running = [a for a in found if a["ClientStatus"] == "running"]
            return len(found) == 3 and len(running) == 1 and await is_ready(engine, name_of(one))

        await auntil(alone, 20.0)


async def test_a_job_that_nomad_refuses_holds_up_no_other_one(
    agent: NomadAgent, settings: JobSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """What it is told by Serai is made invalid on the way: Nomad itself says no."""
    versions = [version(name=name) for name in ("v1-aaaaaaaa", "v2-bbbbbbbb")]
    first, second = (job_id(settings.prefix, job_name(one)) for one in versions)
    with rewriting_proxy(agent.port) as proxy:
        proxy.asked = {b'"Priority": 61': b'"Priority": -1'}
        async with engine_of(agent, settings, port=proxy.port) as engine:
            for one in versions:
                await engine.start([name_of(one)], one, epoch=1)
                await ready(engine, name_of(one))
            held = agent.call("GET", f"/job/{first}")
            held["TaskGroups"][0]["Count"] = 2
            agent.register({**held, "Priority": 61}, held["JobModifyIndex"])
            agent.call("POST", f"/job/{second}/scale", {"Count": 3, "Target": {"Group": "1"}})
            await auntil(lambda: count(agent, second) == 1, 20.0)
            assert count(agent, first) == 2
            await auntil(lambda: "job not tidied" in caplog.messages, 15.0)
            proxy.asked = {}
            await auntil(lambda: count(agent, first) == 1, 20.0)
    assert caplog.messages.count("job not tidied") == 1, "it is told at every turn"


def count(agent: NomadAgent, job: str) -> int:
    (group,) = agent.call("GET", f"/job/{job}")["TaskGroups"]
    return int(group["Count"])


async def is_ready(engine: NomadEngine, replica: str) -> bool:
    return any(r.id == replica and r.state is ReplicaState.READY for r in await engine.observe())
