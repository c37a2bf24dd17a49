"""How long something has been so, with clocks that step and leaders whose clocks differ."""

import msgspec
import pytest

from serai.clock import SimClock
from serai.errors import Refused
from serai.model import Replica, ReplicaState
from serai.operator import DeployItem, DeployRequest, NodeWish
from serai.spec.scaling import Autoscaling, Window
from serai.units import Duration
from serai_scheduler.deploy import accept
from serai_scheduler.failures import failed_at_s
from serai_scheduler.nodeplan import plan_nodes
from serai_scheduler.record import NodeIntent
from serai_scheduler.term_clock import TermClock
from serai_scheduler.world import age_s
from tests.sim.test_strays import World
from tests.support.scheduling import around, replica, spec

HOUR_S = 3600.0
BEGAN_S, NOW_S = 10_000.0, 10_060.0


class SteppedClock(SimClock):
    """One that is set while it runs."""

    step_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.step_s


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
async def test_a_step_of_the_clock_is_no_time_that_has_passed(step_s: float) -> None:
    clock = SteppedClock()
    term = TermClock(clock)
    before_s = term.wall()
    clock.step_s = step_s
    await term.sleep(5.0)
    assert term.wall() - before_s == pytest.approx(5.0)
    assert term.now() == clock.now()


@pytest.mark.parametrize(
    ("since_s", "age"),
    [
        (NOW_S - 30.0, 30.0),  # stamped by this leader
        (NOW_S, 0.0),
        (BEGAN_S - 5.0, 60.0),  # by the one before: since this one began
        (BEGAN_S - HOUR_S, 60.0),  # by one whose clock was an hour behind, or an hour ago
        (NOW_S + HOUR_S, 60.0),  # by one whose clock was ahead
    ],
)
def test_stamps_of_other_leaders_count_from_the_beginning_of_this_one(
    since_s: float, age: float
) -> None:
    assert age_s(NOW_S, since_s, BEGAN_S) == pytest.approx(age)


def test_a_failure_is_dated_by_whoever_sees_it_and_not_by_its_node() -> None:
    def failed(number: int, at_s: float) -> Replica:
        return replica("v1", number, ReplicaState.FAILED, ended_at_s=at_s)

    ahead, behind = failed(1, NOW_S + HOUR_S), failed(2, NOW_S - HOUR_S)
    found = failed_at_s([ahead, behind], None, NOW_S)
    assert found == {ahead.id: NOW_S, behind.id: NOW_S - HOUR_S}, "a new leader asks the node"
    later = failed_at_s([ahead, behind, failed(3, NOW_S - HOUR_S)], found, NOW_S + 5.0)
    assert later == {**found, failed(3, 0.0).id: NOW_S + 5.0}
    alive = replica("v1", 1)
    assert failed_at_s([alive], later, NOW_S + 6.0) == {}, "nothing is kept of what has gone"


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_a_node_with_another_clock_delays_no_restart_and_hastens_none(ahead_s: float) -> None:
    """Two failures in a row: the third start comes two seconds after the second failure."""
    world = World()
    await world.deploy("iris")
    for _ in range(30):
        await world.pass_time(0.5)
    began_s: list[float] = []
    for _ in range(2):
        (serving,) = world.alive()
        world.engine.fail(serving, world.clock.wall() + ahead_s)
        failed_s = world.clock.now()
        while not world.alive():
            await world.pass_time(0.5)
        began_s.append(world.clock.now() - failed_s)
    assert began_s[0] <= 1.0 and 2.0 <= began_s[1] <= 3.5


def test_a_new_leader_with_another_clock_ends_no_drain_at_once() -> None:
    intents = {"a": NodeIntent(node="a", wish=NodeWish.DRAIN, since_s=0.0, limit_s=600.0)}
    begun = plan_nodes(intents, (), HOUR_S + 60.0, HOUR_S)
    assert not begun.leaving.overdue, "a minute of this leader's is no ten"
    assert plan_nodes(intents, (), HOUR_S + 600.0, HOUR_S).leaving.overdue == {"a"}


async def test_a_schedule_goes_by_the_clock_as_it_is_set_now() -> None:
    """Set an hour ahead, the hour's bounds hold at once; set back, the ordinary ones do."""
    clock = SteppedClock()
    world = World(clock=clock)
    began_s = clock.wall() // HOUR_S * HOUR_S
    next_hour = Window(cron="0 23 * * *", timezone="UTC", min=3, max=4, for_=Duration(HOUR_S))
    assert began_s % 86_400.0 == 22 * HOUR_S, "the simulated clock begins before 23:00"
    scaling = Autoscaling(min_replicas=1, max_replicas=2, schedule=(next_hour,))
    one = msgspec.structs.replace(spec("iris"), autoscaling=scaling)
    request = DeployRequest(apis=(DeployItem(spec=one, bundle="a"),))
    await world.orders.deploy(request, around(clock.wall()), accept)
    for _ in range(30):
        await world.pass_time(0.5)
    assert len(world.alive()) == 1
    clock.step_s = HOUR_S
    for _ in range(30):
        await world.pass_time(0.5)
    assert len(world.alive()) == 3
    assert (await world.orders.scale("iris", 4)).pinned == 4
    clock.step_s = 0.0
    with pytest.raises(Refused, match="may have 1 to 2 replicas"):
        await world.orders.scale("iris", 4)
    await world.pass_time(0.5)
    record = (await world.state.read())["iris"].record
    assert (record.pinned, record.replicas) == (4, 2), "it keeps to the bounds of now"
