"""One suite for every engine: what the port promises, whatever runs the replicas."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from serai.engine import Engine, LogQuery
from serai.errors import Refused
from serai.model import Exit, ReplicaState, Version
from tests.cluster.nomad import NomadAgent, nomad
from tests.integration.local.world import (
    FolderCache,
    all_lines,
    ask,
    ask_rudely,
    engine_on,
    eventually,
    in_state,
    program_folder,
    ready,
    replica_of,
)
from tests.support.nomad_engine import nomad_engine_on, version
from tests.support.wait import auntil

ENDED = (ReplicaState.STOPPED, ReplicaState.FAILED, ReplicaState.LOST)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadAgent]:
    with nomad(tmp_path_factory.mktemp("nomad")) as made:
        yield made


@pytest.fixture(params=["local", pytest.param("nomad", marks=pytest.mark.engines)])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    if request.param == "local":
        async with engine_on(tmp_path / "engine", FolderCache(program_folder(tmp_path))) as opened:
            yield opened
    else:
        async with nomad_engine_on(request.getfixturevalue("agent"), tmp_path) as following:
            yield following


def name_of(version: Version, number: int = 1) -> str:
    return f"{version.api}.{version.name}.{number}"


ONE = version()
FIRST, SECOND = name_of(ONE), name_of(ONE, 2)


async def test_a_replica_becomes_ready_with_its_servers(engine: Engine) -> None:
    wanted = version(concurrency=7)
    name = name_of(wanted)
    await engine.start([name], wanted, epoch=1)
    replica = await ready(engine, name)
    assert (replica.api, replica.version) == ("api", wanted.name) and replica.node
    assert replica.ready_at_s is not None and replica.created_at_s <= replica.ready_at_s
    (server,) = replica.servers
    assert (server.id, server.capacity, server.version) == (f"{name}.0", 7, wanted.name)
    assert await ask(replica, "/anything") == (200, "ok")


async def test_an_id_that_is_known_is_left_as_it_is(engine: Engine) -> None:
    await engine.start([FIRST], ONE, epoch=1)
    replica = await ready(engine, FIRST)
    await engine.start([FIRST], ONE, epoch=1)
    assert await replica_of(engine, FIRST) == replica
    await engine.stop([FIRST], 5.0, epoch=1)
    await in_state(engine, FIRST, ReplicaState.STOPPED)
    await engine.start([FIRST, SECOND], ONE, epoch=1)
    assert (await ready(engine, SECOND)).servers
    assert (await replica_of(engine, FIRST)).state is ReplicaState.STOPPED


async def test_many_are_started_at_once_and_any_of_them_is_ended(engine: Engine) -> None:
    names = [name_of(ONE, number) for number in (1, 2, 3)]
    await engine.start(names, ONE, epoch=1)
    assert {replica.id for replica in await engine.observe()} == set(names)
    before = {name: await ready(engine, name) for name in names}
    await engine.stop([names[1], names[0]], 5.0, epoch=1)
    for name in names[:2]:
        assert not (await replica_of(engine, name)).servers
        await in_state(engine, name, ReplicaState.STOPPED)
    assert await replica_of(engine, names[2]) == before[names[2]]


async def test_more_time_for_answers_ends_nothing(engine: Engine) -> None:
    await engine.grant(ONE, 60.0, epoch=1)
    await engine.start([FIRST], ONE, 1, drain_s=60.0)
    before = await ready(engine, FIRST)
    await engine.grant(ONE, 900.0, epoch=1)
    assert await replica_of(engine, FIRST) == before
    await engine.start([SECOND], ONE, 1, drain_s=900.0)
    await ready(engine, SECOND)
    assert await replica_of(engine, FIRST) == before


async def test_stop_drains_and_then_ends(engine: Engine) -> None:
    await engine.start([FIRST], ONE, epoch=1)
    await ready(engine, FIRST)
    await engine.stop([FIRST], 5.0, epoch=1)
    seen = await replica_of(engine, FIRST)
    assert seen.state in (ReplicaState.DRAINING, ReplicaState.STOPPED)
    assert seen.servers == ()
    replica = await in_state(engine, FIRST, ReplicaState.STOPPED)
    assert replica.exit == Exit(exit_code=0) and replica.ended_at_s is not None


async def test_a_program_that_does_not_listen_to_sigterm_is_killed(engine: Engine) -> None:
    stubborn = version(STUBBORN="1")
    name = name_of(stubborn)
    await engine.start([name], stubborn, epoch=1)
    await ready(engine, name)
    await engine.stop([name], 0.3, epoch=1)
    replica = await in_state(engine, name, ReplicaState.STOPPED)
    assert replica.exit == Exit(signal="SIGKILL")
    assert replica.reason.startswith("killed: it had not ended")


async def test_stopping_what_is_not_there_is_no_error(engine: Engine) -> None:
    await engine.stop(["nobody"], 1.0, epoch=1)
    assert list(await engine.observe()) == []


async def test_an_exit_code_is_told_with_the_last_lines(engine: Engine) -> None:
    await engine.start([FIRST], ONE, epoch=1)
    await ask_rudely(await ready(engine, FIRST), "/exit?7")
    replica = await in_state(engine, FIRST, *ENDED)
    assert replica.state is ReplicaState.FAILED
    assert replica.exit == Exit(exit_code=7)
    assert replica.reason in ("exit code 7", "exit code 7: leaving now")
    assert replica.log_tail[-1] == "leaving now"
    assert replica.servers == ()


async def test_a_signal_is_told(engine: Engine) -> None:
    await engine.start([FIRST], ONE, epoch=1)
    await ask_rudely(await ready(engine, FIRST), "/signal?11")
    replica = await in_state(engine, FIRST, *ENDED)
    assert replica.exit == Exit(signal="SIGSEGV")


async def test_a_server_that_is_not_ready_leaves_and_comes_back(engine: Engine) -> None:
    await engine.start([FIRST], ONE, epoch=1)
    first = await ready(engine, FIRST)
    await ask(first, "/ready?no")
    loading = await in_state(engine, FIRST, ReplicaState.LOADING)
    assert loading.servers == () and loading.reason
    await ask(first, "/ready?yes")
    again = await ready(engine, FIRST)
    assert again.servers == first.servers and again.ready_at_s == first.ready_at_s


async def test_orders_of_an_older_epoch_are_refused(engine: Engine) -> None:
    await engine.start([FIRST], ONE, epoch=5)
    for order in (
        engine.start([SECOND], ONE, epoch=4),
        engine.stop([FIRST], 1.0, epoch=4),
        engine.grant(ONE, 60.0, epoch=4),
        engine.forget("api", epoch=4),
    ):
        with pytest.raises(Refused) as caught:
            await order
        assert caught.value.code == "fenced"
    assert [replica.id for replica in await engine.observe()] == [FIRST]


async def test_forget_removes_the_ended_replicas_of_one_api(engine: Engine) -> None:
    a, b = version(api="a"), version(api="b")
    ended, other, lives = name_of(a), name_of(b), name_of(a, 2)
    await engine.start([ended, lives], a, epoch=1)
    await engine.start([other], b, epoch=1)
    for name in (ended, other, lives):
        await ready(engine, name)
    for name in (ended, other):
        await engine.stop([name], 5.0, epoch=1)
        await in_state(engine, name, ReplicaState.STOPPED)
    await engine.forget("a", epoch=1)
    assert sorted(replica.id for replica in await engine.observe()) == sorted([lives, other])
    assert await all_lines(engine, LogQuery(api="a", replicas=(ended,))) == []


async def test_an_id_is_free_again_once_it_is_forgotten(engine: Engine) -> None:
    # An API that was deleted and deployed again once waited for ever to be started.
    for _ in range(2):
        await engine.start([FIRST], ONE, epoch=1)
        await ready(engine, FIRST)
        await engine.stop([FIRST], 5.0, epoch=1)
        await in_state(engine, FIRST, ReplicaState.STOPPED)
        await engine.forget("api", epoch=1)


async def test_logs_of_all_replicas_come_in_the_order_of_time(engine: Engine) -> None:
    stamped = version(STAMPED="1")
    one, two = name_of(stamped), name_of(stamped, 2)
    await engine.start([one, two], stamped, epoch=1)
    replicas = [await ready(engine, name) for name in (one, two)]

    async def there(count: int) -> bool:
        return len(await lines()) == count

    async def lines() -> list[tuple[str, str, str]]:
        found = await all_lines(engine, LogQuery(api="api", grep="turn"))
        return [(line.replica, line.stream, json.loads(line.text)["event"]) for line in found]

    for turn in range(4):
        await ask(replicas[turn % 2], f"/{'say' if turn % 2 else 'shout'}?turn-{turn}")
        await eventually(partial(there, turn + 1))

    assert await lines() == [
        (one, "err", "turn-0"),
        (two, "out", "turn-1"),
        (one, "err", "turn-2"),
        (two, "out", "turn-3"),
    ]
    query = LogQuery(api="api", tail=1, grep="turn", replicas=(one,))
    assert ["turn-2" in line.text for line in await all_lines(engine, query)] == [True]
    assert await all_lines(engine, LogQuery(api="api", version="v9-none")) == []
    began = [line for line in await all_lines(engine, LogQuery(api="api")) if line.replica == two]
    assert began[0].text.startswith("listening on")


async def test_who_follows_hears_of_replicas_that_come_later(engine: Engine) -> None:
    stamped = version(STAMPED="1")
    one, two = name_of(stamped), name_of(stamped, 2)
    await engine.start([one], stamped, epoch=1)
    await ask(await ready(engine, one), "/say?first")
    heard: list[tuple[str, str]] = []

    async def follow() -> None:
        async for line in engine.logs(LogQuery(api="api", grep="event", follow=True)):
            heard.append((line.replica, json.loads(line.text)["event"]))

    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow())
        await auntil(lambda: (one, "first") in heard)
        await engine.stop([one], 5.0, epoch=1)
        await engine.start([two], stamped, epoch=1)
        await ask(await ready(engine, two), "/shout?second")
        await auntil(lambda: (two, "second") in heard)
        following.cancel()
    assert heard == [(one, "first"), (two, "second")]


async def test_each_node_tells_what_it_has_for_replicas(engine: Engine) -> None:
    async def told() -> bool:
        return all(node.capacity is not None for node in await engine.nodes())

    await auntil(told)
    (node,) = await engine.nodes()
    assert node.takes and node.capacity is not None and (node.capacity.memory_mib or 0) > 100
