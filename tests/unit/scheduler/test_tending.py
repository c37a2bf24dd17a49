"""Nodes are closed and opened in the background: one that hangs holds up no pass, and no other."""

import asyncio
from collections import Counter
from contextlib import aclosing
from random import Random

from serai.clock import SimClock
from serai.engine import EngineNode
from serai.memory import MemoryStore
from serai.operator import NodeWish
from serai_scheduler.nodeplan import Take
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.record import NodeIntent
from serai_scheduler.state import State
from serai_scheduler.tending import AT_ONCE, Tending
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import TrafficBook
from tests.sim.cluster import SimEngine
from tests.support.wait import auntil

NODES = [f"node-{number}" for number in range(30)]


class SlowEngine(SimEngine):
    """An engine with many nodes, some of which it cannot close before `released` is set."""

    def __init__(self, hanging: set[str]) -> None:
        super().__init__(Random(1), SimClock())
        self.hanging = hanging
        self.released = asyncio.Event()
        self.asked: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0

    async def nodes(self) -> list[EngineNode]:
        closed = [name in self._closed for name in NODES]
        return [
            EngineNode(name=n, takes=not c, closed=c) for n, c in zip(NODES, closed, strict=True)
        ]

    async def take(self, node: str, takes: bool, epoch: int) -> None:
        self.asked[node] += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if node in self.hanging:
                await self.released.wait()
            await super().take(node, takes, epoch)
        finally:
            self.under_way -= 1

    def closed(self) -> int:
        return len(self._closed)


async def test_nodes_that_hang_hold_up_no_pass() -> None:
    engine, store, clock = SlowEngine(set(NODES[:2])), MemoryStore(), TermClock(SimClock())
    state = State(store)
    for node in NODES:
        await state.want(NodeIntent(node=node, wish=NodeWish.CORDON, since_s=0.0), 0)
    async with aclosing(Reconciler(clock, state, engine, TrafficBook(), 0)) as reconciler:
        for _ in range(3):
            async with asyncio.timeout(2.0):
                await reconciler.tick()
        assert engine.closed() == len(NODES) - 2
        assert 1 < engine.most_under_way <= AT_ONCE
        assert engine.asked[NODES[0]] == 1, "it is asked again while the first is under way"
        engine.released.set()
        await reconciler.tick()
        await auntil(lambda: engine.closed() == len(NODES), 5.0)
    assert engine.under_way == 0


async def test_what_is_not_wanted_by_its_turn_is_not_ordered() -> None:
    engine = SlowEngine(set(NODES))
    async with aclosing(Tending(engine, 0)) as tending:
        assert await tending.give([Take(node, False) for node in NODES]) == {}
        assert sum(engine.asked.values()) == AT_ONCE
        engine.hanging = set()
        assert await tending.give([Take(NODES[-1], True)]) == {}
        engine.released.set()
        await auntil(lambda: engine.asked[NODES[-1]] == 1, 5.0)
    assert sum(engine.asked.values()) == AT_ONCE + 1
    assert engine.closed() == AT_ONCE


async def test_why_an_order_failed_is_told_while_it_is_wanted() -> None:
    engine = SlowEngine(set())
    engine.fault_rate = 1.0
    async with aclosing(Tending(engine, 0)) as tending:
        assert await tending.give([Take("node-1", False)]) == {"node-1": "simulated"}
        assert await tending.give(()) == {}
        engine.fault_rate = 0.0
        assert await tending.give([Take("node-1", False)]) == {}
    assert engine.closed() == 1


async def test_nothing_is_ordered_after_its_end() -> None:
    engine = SlowEngine(set(NODES))
    async with aclosing(Tending(engine, 0)) as tending:
        await tending.give([Take(node, False) for node in NODES])
    engine.released.set()
    await engine.clock.sleep(0)
    assert engine.under_way == engine.closed() == 0
