"""A machine whose wall clock is set, while a scheduler leads: recording of traffic goes on."""

from collections.abc import Iterable
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from serai.blobs import MemoryBlobs
from serai.clock import SimClock
from serai.memory import MemoryStore
from serai.report import DEMAND_SLOT_S, ApiDemand, Demand, DemandSlot, demand_slot
from serai.spec import Problem
from serai_scheduler.ledger import Ledger, Slot
from serai_scheduler.service import Scheduler
from tests.sim.cluster import SimEngine
from tests.support.scheduling import CLUSTER


class SetClock(SimClock):
    """Somebody sets its wall clock."""

    ahead_s = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead_s


class Told(Ledger):
    """Remembers what traffic it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: list[Slot] = []

    def add_traffic(self, slots: Iterable[Slot]) -> None:
        self.slots.extend(slots)


async def all_fine(specs: object) -> tuple[Problem, ...]:
    return ()


def no_remarks(specs: object) -> tuple[str, ...]:
    return ()


@pytest.mark.parametrize("step_s", [3600.0, 8 * 3600.0, -3600.0, 0.0])
async def test_traffic_is_recorded_on_after_the_clock_was_set(step_s: float) -> None:
    clock, ledger = SetClock(), Told()
    scheduler = Scheduler(
        clock=clock,
        store=MemoryStore(),
        engine=SimEngine(Random(1), clock),
        blobs=MemoryBlobs(clock.wall),
        parts=MemoryBlobs(clock.wall),
        cluster=CLUSTER,
        epoch=0,
        check_specs=all_fine,
        registry=CollectorRegistry(),
        remarks=no_remarks,
        ledger=ledger,
    )

    async def pass_slots(count: int) -> int:
        before = len(ledger.slots)
        for _ in range(count):
            number = demand_slot(clock.wall())
            one = ApiDemand(api="iris", first=number, slots=(DemandSlot(arrivals=7),))
            scheduler.traffic.demand.add("node", Demand(since=0, apis=(one,)), clock.wall())
            await clock.sleep(DEMAND_SLOT_S)
            await scheduler.autoscaler.keep_traffic()
        return len(ledger.slots) - before

    assert await pass_slots(60) >= 50
    clock.ahead_s += step_s
    assert await pass_slots(60) >= 50
