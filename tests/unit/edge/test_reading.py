"""Counters become a reading that never dips falsely and never imagines held requests."""

import pytest

from serai_agent.edge.answers import Seen, SeenServer, SeenSlot
from serai_agent.edge.outcomes import LINE_IS_LOST_S, Outcomes
from serai_agent.edge.reading import Worker, servers_of, versions_of
from tests.unit.edge.values import server

SLOT = "slot_030_0"


def worker(
    current: int,
    queued: int = 0,
    tracked: int = 0,
    on_server: int = 0,
    up: bool = True,
    pid: int = 7,
) -> Worker:
    there = SeenServer(
        slot=SLOT,
        name=server().id,
        id=1,
        address="10.0.0.1:9000",
        maxconn=2,
        in_flight=on_server,
        up=up,
        drain=False,
        maintenance=False,
    )
    slots = {SLOT: SeenSlot(SLOT, current, queued, 100)}
    return Worker(Seen({}, (there,), slots), {"iris": tracked}, pid)


def test_queued_requests_are_no_requests_in_flight() -> None:
    found = {v.version: v for v in versions_of([worker(7, 5, 7, 2)], ["iris"], Outcomes())}
    assert (found["v1"].in_flight, found["v1"].queued, found[""].held) == (2, 5, 0)


def test_what_runs_in_a_retired_worker_counts_too() -> None:
    both = [worker(1, 0, 1, 1), worker(3, 1, 3, 2, pid=6)]
    found = {v.version: v for v in versions_of(both, ["iris"], Outcomes())}
    assert (found["v1"].in_flight, found["v1"].queued) == (3, 1)
    assert [(s.in_flight, s.state) for s in servers_of(both)] == [(3, "up")]


def test_requests_are_held_only_where_nothing_is_ready() -> None:
    ready = {v.version: v for v in versions_of([worker(1, 0, 4)], ["iris"], Outcomes())}
    assert ready[""].held == 0, "requests that came between two counts are not held"
    asleep = {v.version: v for v in versions_of([worker(1, 0, 4, up=False)], ["iris"], Outcomes())}
    assert asleep[""].held == 3


def test_arrivals_never_fall() -> None:
    sums = Outcomes()
    line = b"iris|v1|200|5|--|1|1|-|-|%d|7"
    seen = []
    for current, done in ((3, 0), (1, 1), (0, 3), (2, 3), (0, 5)):
        while sums.lines < done:
            sums.add(line % sums.lines)
        found = {v.version: v for v in versions_of([worker(current)], ["iris"], sums)}
        seen.append(found["v1"].arrivals)
    assert seen == [3, 3, 3, 5, 5]


def arrivals(workers: list[Worker], sums: Outcomes) -> int:
    return next(v.arrivals for v in versions_of(workers, ["iris"], sums) if v.version == "v1")


def test_what_died_with_a_haproxy_hides_nothing_that_comes_to_the_next_one() -> None:
    """50 never ended, and the next 50 were not counted."""
    sums, now = Outcomes(), (0, 10, 20, 30, 60)
    told = [arrivals([worker(50)], sums), *(arrivals([worker(n, pid=8)], sums) for n in now)]
    assert told == [50, 50, 60, 70, 80, 110]
    sums.add(b"iris|v1|200|5|--|1|1|-|-|0|7")
    assert arrivals([worker(60, pid=8)], sums) == 110, "a late line of one that came before"


def test_what_a_retired_worker_takes_its_time_for_hides_nothing_either() -> None:
    sums = Outcomes()
    told = [arrivals([worker(4)], sums), arrivals([worker(2, pid=8), worker(3)], sums)]
    sums.add(b"iris|v1|200|5|--|1|1|-|-|0|7")
    sums.add(b"iris|v1|200|5|--|1|1|-|-|0|8")
    told += [arrivals([worker(1, pid=8), worker(3)], sums), arrivals([worker(1, pid=8)], sums)]
    for number in range(1, 4):  # the retired one has ended in between
        sums.add(b"iris|v1|200|5|--|1|1|-|-|%d|7" % number)
    told.append(arrivals([worker(4, pid=8)], sums))
    assert told == [4, 6, 6, 6, 9]


def test_refused_requests_have_arrived_and_are_told_apart_from_completions() -> None:
    sums = Outcomes()
    for number, end in enumerate(("200|5|--|1|1|-", "429|0|LR|1|1|queue", "503|9|CQ|1|1|-")):
        sums.add(b"iris|v1|%s|-|%d|7" % (end.encode(), number))
    found = {v.version: v for v in versions_of([worker(3, 1)], ["iris"], sums)}["v1"]
    assert (found.arrivals, found.completions, found.refused) == (6, 1, 2)


def test_an_api_without_any_server_is_told() -> None:
    found = versions_of([Worker(Seen({}, (), {}), {"iris": 2}, pid=7)], ["iris"], Outcomes())
    assert [(v.version, v.held) for v in found] == [("", 2)]


def asleep(tracked: int, pid: int = 7) -> Worker:
    return worker(0, tracked=tracked, up=False, pid=pid)


def all_arrivals(workers: list[Worker], sums: Outcomes) -> int:
    return sum(v.arrivals for v in versions_of(workers, ["iris"], sums))


def ended(sums: Outcomes, count: int, pid: int = 7, how: str = "200|5|--|1|1|-") -> None:
    for _ in range(count):
        sums.add(f"iris|v1|{how}|-|{sums.lines}|{pid}".encode())


def test_what_is_held_arrives_when_it_comes_and_not_again_when_it_is_let_go() -> None:
    sums = Outcomes()
    told = [all_arrivals([asleep(n)], sums) for n in (3, 5, 5)]
    told.append(all_arrivals([worker(4, 2, 4)], sums))  # one of them has ended, its line is late
    ended(sums, 5)
    told.append(all_arrivals([worker(2, tracked=2)], sums))
    assert told == [3, 5, 5, 5, 7]


def test_who_leaves_while_held_and_who_comes_instead_are_told_apart() -> None:
    sums = Outcomes()
    told = [all_arrivals([asleep(5)], sums)]
    ended(sums, 3, how="503|9|SC|1|1|left")
    told.append(all_arrivals([asleep(4)], sums))
    assert told == [5, 7], "three left, two came"


def test_what_a_reload_hands_over_has_arrived_once() -> None:
    """The retired worker passes on what it held, and so has it for as long as the new one."""
    sums, old = Outcomes(), asleep(5)
    told = [all_arrivals([old], sums)]
    told += [all_arrivals([asleep(n, pid=8), old], sums) for n in (3, 5, 6)]
    told.append(all_arrivals([worker(6, tracked=6, pid=8), old], sums))
    ended(sums, 6, pid=8)
    told.append(all_arrivals([worker(1, tracked=1, pid=8)], sums))
    assert told == [5, 5, 5, 6, 6, 7]


def test_what_was_held_by_a_haproxy_that_died_hides_nothing_that_comes_to_the_next_one() -> None:
    sums, told = Outcomes(), []
    for master, there in ((1, asleep(5)), (1, asleep(6)), (2, asleep(4, pid=8))):
        with sums.asking(master, 1.0):
            pass
        told.append(all_arrivals([there], sums))
    assert told == [5, 6, 10]


def test_what_was_held_and_whose_line_was_lost_hides_nothing_for_long() -> None:
    sums, told = Outcomes(), []
    for at_s, tracked in ((1.0, 5), (2.0, 0), (2.0 + LINE_IS_LOST_S, 0), (8.0, 2)):
        with sums.asking(None, at_s):
            pass
        told.append(all_arrivals([asleep(tracked)], sums))
    assert told == [5, 5, 5, 7]


def test_lines_of_what_was_held_may_come_some_reads_after_it_has_gone() -> None:
    sums = Outcomes()
    told = [all_arrivals([there], sums) for there in (asleep(5), *[asleep(0)] * 9)]
    ended(sums, 5)
    told.append(all_arrivals([asleep(0)], sums))
    assert set(told) == {5}


@pytest.mark.parametrize("there", [asleep(5), worker(5, tracked=5)])
def test_what_ends_while_haproxy_answers_is_not_counted_twice(there: Worker) -> None:
    sums = Outcomes()
    told = [all_arrivals([there], sums)]
    with sums.asking(None, 1.0):
        ended(sums, 2)
    told.append(all_arrivals([there], sums))  # its answer is from before they ended
    with sums.asking(None, 1.0):
        pass
    told += [all_arrivals([there], sums)]
    assert told == [5, 5, 7], "and who came in their places is counted at the next look"
