"""An API that is asked for far more than it can do, with a small queue: most is refused at first.

What is simulated are the API and HAProxy's counters and lines of log. All that counts and decides
is the product's own, from the line to the wanted count.
"""

from dataclasses import dataclass, field

import pytest

from serai.report import DEMAND_SLOT_S, GatewayReading
from serai_agent.edge.answers import Seen, SeenServer, SeenSlot
from serai_agent.edge.outcomes import Outcomes
from serai_agent.edge.reading import Worker, versions_of
from serai_agent.report.demand import DemandHistory
from serai_scheduler.autoscale.decide import Limits, decide
from serai_scheduler.autoscale.history import History
from serai_scheduler.autoscale.signals import Signals, Supply
from serai_scheduler.demand import DemandBook
from serai_scheduler.replay.load import mean_service_s
from serai_scheduler.replay.system import Load, Room, System
from serai_scheduler.traffic import TrafficBook
from tests.unit.edge.values import server

WALL_S = 1_800_000_000.0
SLOT = "slot_030_0"
SERVICE_S, RATE, START_UP_S = 20.0, 50, 30.0
SLOTS = 10
NEEDED = int(RATE * SERVICE_S) // SLOTS
MINUTE = 60
LENGTH_S = 6 * MINUTE


@dataclass
class Overloaded:
    """One API behind one gateway, which `decide` steers; it begins with a single replica."""

    system: System
    room: Room
    outcomes: Outcomes = field(default_factory=Outcomes)
    told: DemandHistory = field(default_factory=DemandHistory)
    book: TrafficBook = field(default_factory=TrafficBook)
    signals: Signals = field(default_factory=Signals)
    history: History = field(default_factory=History)
    wanted: list[int] = field(default_factory=list)
    arrived: int = 0
    ended: int = 0
    refused: int = 0

    def pass_second(self) -> None:
        seen = self.system.pass_second()
        self.arrived += seen.arrivals
        self.ended += seen.completions
        gone = self.arrived - self.ended - seen.running - seen.queued
        self._log(seen.completions, gone - self.refused)
        self.refused = gone
        now_s = float(self.system.now_s)
        reading = self._reading(seen.running, seen.queued)
        self.told.add(reading, now_s, WALL_S + now_s)
        self.book.add("node", reading, now_s)
        sample = self.signals.sample(self.book.counted("iris", now_s), self._supply())
        if sample is None:
            return
        self.history.add(now_s, sample)
        decision = decide(self.history, now_s, Limits(1, 400, float(self.room.slots)))
        self.history.standing = decision.standing
        self.wanted.append(decision.wanted)
        self.system.follow(decision.wanted, START_UP_S)

    def _supply(self) -> Supply:
        return Supply(
            ready=self.system.ready,
            starting=self.system.starting,
            slots=float(self.room.slots),
            start_up_s=START_UP_S,
            queue_limit=self.room.queue_limit,
        )

    def _log(self, served: int, refused: int) -> None:
        lines = ["200|20000|--|1|1|-|-"] * served + ["429|0|LR|1|1|queue|-"] * refused
        for line in lines:
            self.outcomes.add(f"iris|v1|{line}|{self.outcomes.lines}|7".encode())

    def _reading(self, running: int, queued: int) -> GatewayReading:
        there = SeenServer(
            slot=SLOT,
            name=server().id,
            id=1,
            address="10.0.0.1:9000",
            maxconn=self.room.slots,
            in_flight=running,
            up=True,
            drain=False,
            maintenance=False,
        )
        slots = {SLOT: SeenSlot(SLOT, running + queued, queued, 0)}
        worker = Worker(Seen({}, (there,), slots), {"iris": running + queued}, pid=7)
        versions = versions_of([worker], ["iris"], self.outcomes)
        return GatewayReading(
            run="run", ready=True, read_at_s=float(self.system.now_s), versions=versions
        )


def run(queue_limit: int, queue_timeout_s: float) -> Overloaded:
    arrivals_s = [number / RATE for number in range(LENGTH_S * RATE)]
    load = Load(arrivals_s, [SERVICE_S] * len(arrivals_s))
    room = Room(SLOTS, queue_limit, queue_timeout_s)
    made = Overloaded(System(load, room, ready=1), room)
    for _ in range(LENGTH_S):
        made.pass_second()
    return made


@pytest.fixture(scope="module")
def overloaded() -> Overloaded:
    return run(queue_limit=100, queue_timeout_s=30.0)


def test_all_that_is_asked_for_is_scaled_to_within_a_minute(overloaded: Overloaded) -> None:
    assert overloaded.wanted[MINUTE] >= NEEDED


def test_a_small_queue_is_scaled_like_one_that_takes_all(overloaded: Overloaded) -> None:
    roomy = run(queue_limit=1_000_000, queue_timeout_s=1e9)
    assert roomy.refused == 0
    assert overloaded.wanted[-1] == pytest.approx(roomy.wanted[-1], rel=0.1)


def test_little_is_refused_once_the_replicas_are_there(overloaded: Overloaded) -> None:
    assert 0 < overloaded.refused < 1.5 * START_UP_S * RATE
    assert overloaded.history.demand.service_s == pytest.approx(SERVICE_S, rel=0.1)


def test_what_is_told_to_a_new_leader_has_the_time_of_service_too(overloaded: Overloaded) -> None:
    book, wall_s = DemandBook(), WALL_S + overloaded.system.now_s
    book.add("node", overloaded.told.since(0), wall_s)
    slots = dict(enumerate(book.slots("iris", wall_s)))
    assert mean_service_s(slots) == pytest.approx(SERVICE_S, rel=0.1)
    assert sum(slot.arrivals for slot in slots.values()) >= overloaded.arrived - RATE
    assert DEMAND_SLOT_S * len(slots) > overloaded.system.now_s
