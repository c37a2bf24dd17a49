"""An engine that shows nothing: what is deployed meanwhile is given up in time, and says why."""

from serai.model import ReplicaState
from serai_scheduler.world import DEFAULT_LIMITS
from tests.sim.test_strays import World


async def test_what_cannot_be_started_in_its_time_is_given_up_and_nothing_else() -> None:
    world = World()
    await world.deploy("iris")
    for _ in range(20):
        await world.pass_time(1.0)
    (serving,) = world.alive()
    world.engine.fault_rate = 1.0
    await world.deploy("text")
    await world.pass_time(1.0)
    assert world.reconciler.blind == "simulated"
    await world.pass_time(DEFAULT_LIMITS.ready_s)
    apis = await world.state.read()
    assert apis["text"].record.candidate is None
    assert apis["text"].record.last_error == "not ready within 30 min: simulated"
    assert apis["iris"].record.stable and not apis["iris"].record.last_error
    world.engine.fault_rate = 0.0
    await world.pass_time(1.0)
    assert world.reconciler.blind == "" and world.alive() == [serving]
    assert {r.state for r in world.engine.replicas} == {ReplicaState.READY}
