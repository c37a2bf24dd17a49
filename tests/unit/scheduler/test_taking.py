"""Which gateways still have to take a route; what silence holds up and what not."""

import msgspec

from serai_scheduler.taking import NO_GATEWAY, NOT_HEARD_YET
from serai_scheduler.traffic import FORGET_S, FRESH_S, TrafficBook
from tests.support.scheduling import deployed, replica, spec
from tests.unit.scheduler.test_plan import planned
from tests.unit.scheduler.test_traffic import reading


def test_every_gateway_has_to_take_it() -> None:
    book = TrafficBook()
    assert book.waits_for("iris", 2, 0.0) == NO_GATEWAY
    book.add("one", reading(revision=2), 0.0)
    book.add("two", reading(revision=1), 0.0)
    assert book.waits_for("iris", 1, 0.0) == ""
    assert book.waits_for("iris", 2, 0.0) == "waiting for gateway two to take the route"
    assert "one to take the route, two to take" in book.waits_for("rose", 1, 0.0)


def test_a_silent_gateway_holds_up_only_what_is_new() -> None:
    book = TrafficBook()
    book.add("one", reading(revision=1), 0.0)
    later_s = FRESH_S + 15.0
    assert book.waits_for("iris", 1, later_s) == "", "it serves on what it has"
    assert book.waits_for("iris", 2, later_s) == (
        "waiting for gateway one to take the route (last heard 20 s ago)"
    )
    assert book.waits_for("iris", 1, FORGET_S) == NO_GATEWAY


def test_a_gateway_whose_haproxy_does_not_answer_is_told() -> None:
    book = TrafficBook()
    book.add_speechless("one", 0.0)
    assert book.waits_for("iris", 1, 0.0) == (
        "waiting for gateway one to take the route (its HAProxy does not answer)"
    )
    book.add("two", reading(revision=1), 0.0)
    assert book.waits_for("iris", 1, 0.0) == "", "no caller comes to one that has not begun"
    book.add("one", reading(revision=0), 1.0)
    assert book.waits_for("iris", 1, 1.0) == "waiting for gateway one to take the route"


def test_one_that_joins_or_begins_again_changes_nothing_for_what_is_served() -> None:
    book = TrafficBook()
    book.add("one", reading(revision=3), 0.0)
    nothing = msgspec.structs.replace(reading(run="next"), revisions={})
    book.add("two", nothing, 1.0)
    assert book.waits_for("iris", 3, 1.0) == "", "it joins"
    book.add("two", nothing, 1.5 + FRESH_S)
    assert "gateway two" in book.waits_for("iris", 3, 1.5 + FRESH_S), "it has had its time"
    book.add("one", nothing, 2.0)
    assert "gateway one" not in book.waits_for("iris", 3, 2.0), "HAProxy goes on meanwhile"


def test_a_new_leader_has_to_hear_them_first() -> None:
    book = TrafficBook(known_from_s=5.0)
    assert book.waits_for("iris", 1, 4.0) == NOT_HEARD_YET
    assert book.waits_for("iris", 1, 5.0) == NO_GATEWAY


def test_what_is_in_force_has_the_revision_that_brought_it() -> None:
    _, stored = deployed(None, spec())
    candidate = stored.record.candidate
    assert candidate is not None
    record = planned(stored, replica(candidate.version, 1)).record
    assert record is not None and record.stable == candidate.version
    assert record.in_force_since == record.revision > stored.record.revision
