"""One suite for every engine: what the port promises, whatever runs the replicas."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from serai.engine import Engine, LogQuery
from serai.errors import Refused
from serai.model import Exit, ReplicaState
from serai_agent.local.engine import LocalEngine
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
    version,
)

ENDED = (ReplicaState.STOPPED, ReplicaState.FAILED, ReplicaState.LOST)


@pytest.fixture(params=["local"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LocalEngine]:
    async with engine_on(tmp_path / "engine", FolderCache(program_folder(tmp_path))) as opened:
        yield opened


def test_the_local_engine_fits_the_port(engine: LocalEngine) -> None:
    port: Engine = engine
    assert port is engine


async def test_a_replica_becomes_ready_with_its_servers(engine: LocalEngine) -> None:
    wanted = version(concurrency=7)
    await engine.start("api-1", wanted, epoch=1)
    replica = await ready(engine, "api-1")
    assert (replica.api, replica.version, replica.node) == ("api", wanted.name, "node-1")
    assert replica.ready_at_s is not None and replica.created_at_s <= replica.ready_at_s
    (server,) = replica.servers
    assert (server.id, server.capacity, server.version) == ("api-1.0", 7, wanted.name)
    assert await ask(replica, "/anything") == (200, "ok")


async def test_an_id_that_is_known_is_left_as_it_is(engine: LocalEngine) -> None:
    await engine.start("api-1", version(), epoch=1)
    replica = await ready(engine, "api-1")
    await engine.start("api-1", version(number=2, OTHER="yes"), epoch=1)
    assert await replica_of(engine, "api-1") == replica
    await engine.stop("api-1", 5.0, epoch=1)
    await in_state(engine, "api-1", ReplicaState.STOPPED)
    await engine.start("api-1", version(), epoch=1)
    assert (await replica_of(engine, "api-1")).state is ReplicaState.STOPPED


async def test_stop_drains_and_then_ends(engine: LocalEngine) -> None:
    await engine.start("api-1", version(), epoch=1)
    await ready(engine, "api-1")
    await engine.stop("api-1", 5.0, epoch=1)
    seen = await replica_of(engine, "api-1")
    assert seen.state in (ReplicaState.DRAINING, ReplicaState.STOPPED)
    assert seen.servers == ()
    replica = await in_state(engine, "api-1", ReplicaState.STOPPED)
    assert replica.exit == Exit(exit_code=0) and replica.ended_at_s is not None


async def test_a_program_that_does_not_listen_to_sigterm_is_killed(engine: LocalEngine) -> None:
    await engine.start("api-1", version(STUBBORN="1"), epoch=1)
    await ready(engine, "api-1")
    await engine.stop("api-1", 0.3, epoch=1)
    replica = await in_state(engine, "api-1", ReplicaState.STOPPED)
    assert replica.exit == Exit(signal="SIGKILL")
    assert "0.3 s" in replica.reason


async def test_a_second_stop_may_be_less_patient(engine: LocalEngine) -> None:
    await engine.start("api-1", version(STUBBORN="1"), epoch=1)
    await ready(engine, "api-1")
    await engine.stop("api-1", 600.0, epoch=1)
    assert (await replica_of(engine, "api-1")).state is ReplicaState.DRAINING
    await engine.stop("api-1", 0.1, epoch=1)
    assert (await in_state(engine, "api-1", ReplicaState.STOPPED)).exit == Exit(signal="SIGKILL")


async def test_stopping_what_is_not_there_is_no_error(engine: LocalEngine) -> None:
    await engine.stop("nobody", 1.0, epoch=1)
    assert list(await engine.observe()) == []


async def test_an_exit_code_is_told_with_the_last_lines(engine: LocalEngine) -> None:
    await engine.start("api-1", version(), epoch=1)
    await ask_rudely(await ready(engine, "api-1"), "/exit?7")
    replica = await in_state(engine, "api-1", *ENDED)
    assert replica.state is ReplicaState.FAILED
    assert replica.exit == Exit(exit_code=7) and replica.reason == "exit code 7"
    assert replica.log_tail[-1] == "leaving now"
    assert replica.servers == ()


async def test_a_signal_is_told(engine: LocalEngine) -> None:
    await engine.start("api-1", version(), epoch=1)
    await ask_rudely(await ready(engine, "api-1"), "/signal?11")
    replica = await in_state(engine, "api-1", *ENDED)
    assert replica.exit == Exit(signal="SIGSEGV")


async def test_a_server_that_is_not_ready_leaves_and_comes_back(engine: LocalEngine) -> None:
    await engine.start("api-1", version(), epoch=1)
    first = await ready(engine, "api-1")
    await ask(first, "/ready?no")
    loading = await in_state(engine, "api-1", ReplicaState.LOADING)
    assert loading.servers == () and "503" in loading.reason
    await ask(first, "/ready?yes")
    again = await ready(engine, "api-1")
    assert again.servers == first.servers and again.ready_at_s == first.ready_at_s


async def test_orders_of_an_older_epoch_are_refused(engine: LocalEngine) -> None:
    await engine.start("api-1", version(), epoch=5)
    for order in (
        engine.start("api-2", version(), epoch=4),
        engine.stop("api-1", 1.0, epoch=4),
        engine.forget("api", epoch=4),
    ):
        with pytest.raises(Refused) as caught:
            await order
        assert caught.value.code == "fenced"
    assert [replica.id for replica in await engine.observe()] == ["api-1"]


async def test_forget_removes_the_ended_replicas_of_one_api(engine: LocalEngine) -> None:
    for name, api in (("a-1", "a"), ("b-1", "b"), ("a-2", "a")):
        await engine.start(name, version(api=api), epoch=1)
        await ready(engine, name)
    for name in ("a-1", "b-1"):
        await engine.stop(name, 5.0, epoch=1)
        await in_state(engine, name, ReplicaState.STOPPED)
    await engine.forget("a", epoch=1)
    assert sorted(replica.id for replica in await engine.observe()) == ["a-2", "b-1"]
    assert await all_lines(engine, LogQuery(api="a", replicas=("a-1",))) == []


async def test_an_id_is_free_again_once_it_is_forgotten(engine: LocalEngine) -> None:
    # An API that was deleted and deployed again once waited for ever to be started.
    for _ in range(2):
        await engine.start("api-1", version(), epoch=1)
        await ready(engine, "api-1")
        await engine.stop("api-1", 5.0, epoch=1)
        await in_state(engine, "api-1", ReplicaState.STOPPED)
        await engine.forget("api", epoch=1)


async def test_logs_of_all_replicas_come_in_the_order_of_time(engine: LocalEngine) -> None:
    for name in ("api-1", "api-2"):
        await engine.start(name, version(), epoch=1)
    replicas = [await ready(engine, name) for name in ("api-1", "api-2")]

    async def there(count: int) -> bool:
        return len(await lines()) == count

    async def lines() -> list[tuple[str, str, str]]:
        found = await all_lines(engine, LogQuery(api="api", grep="turn"))
        return [(line.replica, line.stream, line.text) for line in found]

    for turn in range(4):
        await ask(replicas[turn % 2], f"/{'say' if turn % 2 else 'shout'}?turn-{turn}")
        await eventually(partial(there, turn + 1))

    assert await lines() == [
        ("api-1", "err", "turn-0"),
        ("api-2", "out", "turn-1"),
        ("api-1", "err", "turn-2"),
        ("api-2", "out", "turn-3"),
    ]
    last = await all_lines(engine, LogQuery(api="api", tail=1, grep="turn", replicas=("api-1",)))
    assert [line.text for line in last] == ["turn-2"]
    assert await all_lines(engine, LogQuery(api="api", version="v9-none")) == []
