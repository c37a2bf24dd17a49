"""A leader that ends at any step of what it does: the next one brings about the same.

Each scenario is run once in peace, and then once for every moment before and after a call of the
leader to its store or its engine, from a user's order until all is at rest: with the leader cut
there, the end state is the same and nothing is started twice. Storms do so to one leader after the
other.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

import pytest

from serai.operator import NodeRequest, NodeWish
from serai.spec.types import ApiSpec
from serai_scheduler.deploy import accept
from serai_scheduler.orders import Orders
from tests.sim.cluster import BROKEN
from tests.sim.leaders import Cut, Order, World
from tests.sim.wire import Fate, Wire
from tests.support.scheduling import around, request, spec

AWAY_TICKS = (0, 1, 5)
ORDERS = 6
MOST_MOMENTS, MOST_AWAY_TICKS = 250, 9


def deploy(*specs: ApiSpec, bundle: str = "a", force: bool = False) -> Order:
    async def order(orders: Orders, now_s: float) -> None:
        await orders.deploy(request(*specs, bundle=bundle, force=force), around(now_s), accept)

    return order


def scale(count: int) -> Order:
    return lambda orders, _: orders.scale("iris", count)


def refresh(orders: Orders, now_s: float) -> Awaitable[object]:
    return orders.refresh("iris")


def delete(orders: Orders, now_s: float) -> Awaitable[object]:
    return orders.delete("iris")


def drain(orders: Orders, now_s: float) -> Awaitable[object]:
    return orders.node(NodeRequest(wish=NodeWish.DRAIN), "node-1")


async def nothing(world: World) -> None:
    return None


async def serving(world: World) -> None:
    await world.order(deploy(spec(low=2)))
    await world.rest()


async def grown(world: World) -> None:
    await world.order(deploy(spec(low=1)))
    await world.rest()
    await world.order(scale(3))
    await world.rest()


async def updating(world: World) -> None:
    await serving(world)
    await world.order(deploy(spec(low=2), bundle="b"))
    await world.tick()


@dataclass(frozen=True)
class Scenario:
    """What a user orders, and how the world is before."""

    order: Order
    before: Callable[[World], Awaitable[None]] = serving


SCENARIOS = {
    "create": Scenario(deploy(spec("iris", low=2), spec("text")), nothing),
    "update": Scenario(deploy(spec(low=3), bundle="b")),
    "broken": Scenario(deploy(spec(low=2), bundle=BROKEN)),
    "broken at first": Scenario(deploy(spec(low=2), bundle=BROKEN), nothing),
    "settings": Scenario(deploy(spec(low=3))),
    "replace an update": Scenario(deploy(spec(low=2), bundle="c", force=True), updating),
    "scale up": Scenario(scale(4)),
    "scale down": Scenario(scale(1), grown),
    "refresh": Scenario(refresh),
    "delete": Scenario(delete),
    "drain": Scenario(drain),
}


async def run(scenario: Scenario, cut: Cut | None = None) -> tuple[World, Wire]:
    """Run a scenario to its rest; the leader is cut so, counted from the order on."""
    world = World(seed=1)
    await scenario.before(world)
    wire = await world.cut(cut)
    await world.order(scenario.order)
    await world.rest()
    return world, wire


@pytest.mark.parametrize("fate", Fate)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_next_leader_comes_to_the_same_end(name: str, fate: Fate) -> None:
    peaceful, wire = await run(SCENARIOS[name])
    expected = await peaceful.end_state()
    moments = wire.writes if fate is Fate.LATE else range(1, wire.moments + 1)
    for moment in moments:
        cut = Cut(moment, fate, AWAY_TICKS[moment % len(AWAY_TICKS)])
        world, wire = await run(SCENARIOS[name], cut)
        assert wire.cut.is_set()
        assert await world.end_state() == expected, f"cut at moment {moment}"


class Storm:
    """Ends every leader somehow and soon, until it has passed."""

    def __init__(self, rng: Random) -> None:
        self.over = False
        self._rng = rng

    def next_cut(self) -> Cut | None:
        if self.over:
            return None
        fate = self._rng.choice(tuple(Fate))
        return Cut(self._rng.randint(1, MOST_MOMENTS), fate, self._rng.randint(0, MOST_AWAY_TICKS))


def orders_of(rng: Random) -> list[Order]:
    """Return what a user might order of an API that is there, in turn."""
    choices = [
        lambda: deploy(spec(low=rng.randint(1, 3)), bundle=rng.choice("abc"), force=True),
        lambda: scale(rng.randint(3, 5)),
        lambda: deploy(spec("text", low=rng.randint(1, 2)), bundle=rng.choice("abc"), force=True),
    ]
    first = deploy(spec("iris"), spec("text"))
    return [first, *(rng.choice(choices)() for _ in range(ORDERS))]


async def through(orders: list[Order], world: World, rng: Random) -> World:
    for order in orders:
        await world.order(order)
        for _ in range(rng.randint(0, 30)):
            await world.tick()
    return world


@pytest.mark.parametrize("seed", range(20))
async def test_leaders_that_end_one_after_the_other_come_to_the_same_end(seed: int) -> None:
    orders, storm = orders_of(Random(seed)), Storm(Random(seed))
    calm = await through(orders, World(seed), Random(seed))
    await calm.rest()
    world = await through(orders, World(seed, storm.next_cut), Random(seed))
    storm.over = True
    await world.rest()
    expected, found = await calm.end_state(), await world.end_state()
    assert found["apis"] == expected["apis"] and found["routes"] == expected["routes"]
    assert set(world.engine.starts.values()) == {1}, "nothing is started twice"
    assert max(world.obeyed) > 1
