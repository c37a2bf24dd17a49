"""What runs on the loop while that is quick, else in a thread: planning, decoding."""

import threading
from collections.abc import Iterator
from random import Random

import pytest

from serai.clock import SimClock
from serai.memory import MemoryStore
from serai.report import GatewayReading
from serai_scheduler.deploy import accept
from serai_scheduler.orders import Orders
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.state import MANY, State
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import Heard, TrafficBook
from tests.sim.cluster import SimEngine, SimGateway
from tests.support.scheduling import around, request, spec


class Watched(tuple[GatewayReading, ...]):
    """Readings that keep which threads look at them."""

    threads: set[int]

    def __iter__(self) -> Iterator[GatewayReading]:
        self.threads.add(threading.get_ident())
        return super().__iter__()


class WatchedBook(TrafficBook):
    """Keeps which threads look at what the gateways have told."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def heard(self, now_s: float) -> Heard:
        readings = Watched(super().heard(now_s).readings)
        readings.threads = self.threads
        return Heard(readings, known=True)


@pytest.mark.parametrize("small", [0, 1000])
async def test_a_large_plan_is_made_in_a_thread(small: int) -> None:
    clock, store, traffic = SimClock(), MemoryStore(), WatchedBook()
    engine, state = SimEngine(Random(1), clock), State(store)
    SimGateway(Random(1), store, engine)
    term = TermClock(clock)
    reconciler = Reconciler(term, state, engine, traffic, 0, small=small)
    orders = Orders(term, state, lambda: None, 0)
    await orders.deploy(request(spec("iris", low=3)), around(clock.wall()), accept)
    await reconciler.tick()
    assert len(engine.replicas) == 3
    assert len(traffic.threads) == 1
    assert (threading.get_ident() in traffic.threads) == (small > 0)


async def test_a_new_leader_reads_in_a_thread_what_the_old_one_has_read_by_and_by() -> None:
    clock, store = SimClock(), MemoryStore()
    old = State(store)
    orders = Orders(TermClock(clock), old, lambda: None, 0)
    for first in range(0, MANY, 20):
        specs = [spec(f"api-{number}") for number in range(first, first + 20)]
        await orders.deploy(request(*specs), around(clock.wall()), accept)
        await old.read()
    new = State(store)
    assert await new.read() == await old.read()
    assert (new.revision, new.routes) == (old.revision, old.routes)
    assert len(new.routes) == MANY
