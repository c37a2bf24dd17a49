"""How long something has been so, with clocks that step and leaders whose clocks differ."""

import pytest

from serai.clock import SimClock
from serai.operator import NodeWish
from serai_scheduler.nodeplan import plan_nodes
from serai_scheduler.record import NodeIntent
from serai_scheduler.term_clock import TermClock
from serai_scheduler.world import age_s

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


def test_a_new_leader_with_another_clock_ends_no_drain_at_once() -> None:
    intents = {"a": NodeIntent(node="a", wish=NodeWish.DRAIN, since_s=0.0, limit_s=600.0)}
    begun = plan_nodes(intents, (), HOUR_S + 60.0, HOUR_S)
    assert not begun.leaving.overdue, "a minute of this leader's is no ten"
    assert plan_nodes(intents, (), HOUR_S + 600.0, HOUR_S).leaving.overdue == {"a"}
