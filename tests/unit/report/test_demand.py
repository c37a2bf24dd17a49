"""The demand of the last 15 minutes: kept by gateways, known to whoever leads."""

from random import Random

from serai.report import (
    DEMAND_SLOT_S,
    DEMAND_SLOTS,
    ApiDemand,
    Demand,
    DemandSlot,
    GatewayReading,
    VersionTraffic,
    demand_slot,
)
from serai_agent.report.demand import DemandHistory
from serai_scheduler.demand import DemandBook

WALL_S = 1_800_000_000.0
WINDOW_S = DEMAND_SLOT_S * DEMAND_SLOTS


class Gateway:
    """A gateway with random traffic, read once a second, and its agent."""

    def __init__(self, seed: int, ahead_s: float = 0.0) -> None:
        self._rng = Random(seed)
        self.node = f"gateway-{seed}"
        self.ahead_s = ahead_s
        self.run = "first"
        self.history = DemandHistory()
        self.since = 0
        self._arrivals = self._completions = 0

    def read(self, now_s: float, present: int | None = None) -> int:
        """Let a second pass; return how many requests are there."""
        running = self._rng.randint(0, 5) if present is None else present
        self._arrivals += running
        self._completions += running
        reading = GatewayReading(
            run=self.run,
            ready=True,
            read_at_s=now_s,
            versions=(
                VersionTraffic(
                    api="iris",
                    version="v1",
                    in_flight=running,
                    arrivals=self._arrivals,
                    completions=self._completions,
                ),
            ),
        )
        self.history.add(reading, now_s, WALL_S + now_s + self.ahead_s)
        return running

    def tell(self, book: DemandBook, now_s: float) -> None:
        self.since = book.add(self.node, self.history.since(self.since), WALL_S + now_s)

    def restart(self) -> None:
        self.history, self.since, self.run = DemandHistory(), 0, "second"
        self._arrivals = self._completions = 0


def test_a_new_leader_knows_after_two_reports_what_the_old_one_knew() -> None:
    gateways = [Gateway(1), Gateway(2)]
    old, new = DemandBook(), DemandBook()
    for second in range(1000):
        for gateway in gateways:
            gateway.read(second)
            gateway.tell(old, second)
    for second in (1000, 1001):
        for gateway in gateways:
            gateway.read(second)
            gateway.tell(new, second)
    now_s = WALL_S + 1001
    before, after = old.slots("iris", now_s), new.slots("iris", now_s)
    assert before[:-2] == after[:-2], "all but what came since"
    assert sum(slot.arrivals for slot in after) > 3000
    assert new.peak("iris", now_s) == old.peak("iris", now_s)


def test_what_a_slot_holds() -> None:
    gateway, book = Gateway(1), DemandBook()
    for second in range(31):  # the first reading is what to count from
        gateway.read(second, present=3 if second < 20 else 0)
        gateway.tell(book, second)
    first, second_, third = book.slots("iris", WALL_S + 30)[-4:-1]
    assert (first.arrivals, first.completions, first.busy_s, first.peak) == (27, 27, 27.0, 3)
    assert (second_.arrivals, second_.busy_s) == (30, 30.0)
    assert third.arrivals == 0 == third.peak
    assert book.peak("iris", WALL_S + 30) == 3
    assert book.peak("text", WALL_S + 30) == 0
    assert DemandBook().peak("iris", WALL_S) is None


def test_refused_requests_have_arrived_and_not_ended() -> None:
    history, book = DemandHistory(), DemandBook()
    for second in range(11):
        version = VersionTraffic(
            api="iris",
            version="v1",
            in_flight=2,
            arrivals=9 * second,
            completions=second,
            refused=8 * second,
        )
        reading = GatewayReading(
            run="first", ready=True, read_at_s=float(second), versions=(version,)
        )
        history.add(reading, second, WALL_S + second)
    book.add("gateway", history.since(0), WALL_S + 10)
    slot = book.slots("iris", WALL_S + 10)[-2]
    assert (slot.arrivals, slot.completions, slot.busy_s) == (81, 9, 18.0)


def test_only_what_is_new_is_told() -> None:
    gateway, book = Gateway(1), DemandBook()
    for second in range(300):
        gateway.read(second, present=2)
        gateway.tell(book, second)
    (told,) = gateway.history.since(gateway.since).apis
    assert len(told.slots) == 1


def test_a_book_that_missed_something_asks_for_all() -> None:
    gateway, book = Gateway(1), DemandBook()
    gateway.read(0)
    gateway.read(1)
    gateway.since = demand_slot(WALL_S)
    gateway.tell(book, 1)
    assert gateway.since == 0
    assert book.peak("iris", WALL_S + 1) is None


def test_the_past_is_forgotten_after_15_minutes_and_with_its_api() -> None:
    gateway, book = Gateway(1), DemandBook()
    for second in range(20):
        gateway.read(second, present=9)
        gateway.tell(book, second)
    assert book.peak("iris", WALL_S + 19) == 9
    assert book.peak("iris", WALL_S + 2 * WINDOW_S) == 0, "nobody has told anything since"
    for second in range(20, int(WINDOW_S) + 40):
        gateway.read(second, present=1)
        gateway.tell(book, second)
    assert book.peak("iris", WALL_S + WINDOW_S + 39) == 1
    assert len(gateway.history.since(0).apis[0].slots) == DEMAND_SLOTS
    book.forget("iris")
    assert book.peak("iris", WALL_S + WINDOW_S + 39) == 0


def test_an_agent_that_starts_again_makes_nothing_less() -> None:
    gateway, book = Gateway(1), DemandBook()
    for second in range(100):
        gateway.read(second, present=4)
        gateway.tell(book, second)
    before = book.slots("iris", WALL_S + 99)
    gateway.restart()
    for second in range(100, 103):
        gateway.read(second, present=1)
        gateway.tell(book, second)
    assert book.slots("iris", WALL_S + 99) == before
    assert book.slots("iris", WALL_S + 102)[-1].arrivals == 2


def test_clocks_that_differ_or_are_set_back_lose_no_present() -> None:
    for ahead_s in (-300.0, 300.0):
        gateway, book = Gateway(1, ahead_s), DemandBook()
        for second in range(100):
            gateway.read(second, present=5)
            gateway.tell(book, second)
        assert book.peak("iris", WALL_S + 99) == 5
    gateway.ahead_s = -100_000.0
    for second in range(100, 130):
        gateway.read(second, present=6)
    (told,) = gateway.history.since(0).apis
    assert len(told.slots) <= 4 and max(slot.peak for slot in told.slots) == 6


def test_a_gateway_whose_clock_is_set_back_is_heard_on() -> None:
    gateway, book = Gateway(1, ahead_s=300.0), DemandBook()
    for second in range(100):
        gateway.read(second)
        gateway.tell(book, second)
    gateway.ahead_s = 0.0
    for second in range(100, 120):
        gateway.read(second, present=3)
        gateway.tell(book, second)
    newest = book.slots("iris", WALL_S + 119)[-1]
    assert newest.arrivals > 0 and newest.peak == 3


def test_slots_that_are_over_are_taken_once_and_again_after_news() -> None:
    book, wall_s = DemandBook(), 10_000.0
    one, more = DemandSlot(arrivals=2, completions=1), DemandSlot(arrivals=3, completions=2)
    told = (ApiDemand(api="iris", first=998, slots=(one, DemandSlot(), one)),)
    book.add("a", Demand(apis=told), wall_s)
    book.add("b", Demand(apis=(ApiDemand(api="iris", first=998, slots=(one,)),)), wall_s)
    both = DemandSlot(arrivals=4, completions=2)
    assert book.take_over(wall_s, 10) == [("iris", 998, both)], "999 is idle, 1000 is under way"
    assert book.take_over(wall_s, 10) == []
    late = Demand(since=998, apis=(ApiDemand(api="iris", first=998, slots=(more,)),))
    book.add("b", late, wall_s + 20.0)
    five = DemandSlot(arrivals=5, completions=3)
    assert book.take_over(wall_s + 20.0, 10) == [("iris", 998, five), ("iris", 1000, one)]


def test_of_many_slots_the_oldest_are_taken_first() -> None:
    book, wall_s = DemandBook(), 10_000.0
    slots = (DemandSlot(arrivals=1),) * 5
    book.add("a", Demand(apis=(ApiDemand(api="iris", first=990, slots=slots),)), wall_s)
    assert [number for _, number, _ in book.take_over(wall_s, 2)] == [990, 991]
    assert [number for _, number, _ in book.take_over(wall_s, 10)] == [992, 993, 994]
