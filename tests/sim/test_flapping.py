"""A version that gets ready and ends a few seconds later, each time it is started."""

from serai.model import ReplicaState
from tests.sim.cluster import FLAPS
from tests.sim.test_strays import World


async def test_it_does_not_take_over_from_one_that_serves() -> None:
    world = World()
    await world.deploy("iris")
    for _ in range(30):
        await world.pass_time(0.5)
    (serving,) = world.alive()
    before = (await world.state.read())["iris"].record.stable
    await world.deploy("iris", FLAPS)
    was_ready = False
    for _ in range(120):
        await world.pass_time(0.25)
        record = (await world.state.read())["iris"].record
        assert record.stable == before
        new = [r for r in world.engine.replicas if r.version != before]
        was_ready = was_ready or any(r.state is ReplicaState.READY for r in new)
    assert was_ready and record.candidate is None
    assert record.last_error == "it ended by itself"
    assert world.alive() == [serving], "nothing of it is left"


async def test_where_nothing_serves_there_is_no_reason_to_wait() -> None:
    world = World()
    await world.deploy("iris", FLAPS)
    while not any(one.state is ReplicaState.READY for one in world.engine.replicas):
        await world.pass_time(0.25)
    assert (await world.state.read())["iris"].record.stable
