"""Whose reports were refused of late, and who is told so."""

import msgspec

from serai.model import ApiState, ReplicaState
from serai_scheduler.record import StoredApi
from serai_scheduler.refusals import KEPT_S, MOST_KEPT, REMEDY, RefusedReports
from serai_scheduler.traffic import TrafficBook
from serai_scheduler.views import status_of
from tests.support.scheduling import deployed, replica, spec
from tests.unit.scheduler.test_plan import live
from tests.unit.scheduler.test_traffic import reading

TOLD = "the reports of the agent at a are refused"


def test_an_address_is_told_for_half_a_minute() -> None:
    refused = RefusedReports()
    assert refused.told(0.0) == ""
    refused.add("10.0.0.3", 0.0)
    told = "the reports of the agent at 10.0.0.3 are refused for a wrong token: " + REMEDY
    assert refused.told(KEPT_S - 1.0) == told
    assert refused.told(KEPT_S) == ""


def test_however_many_there_are_few_are_kept_and_told() -> None:
    refused = RefusedReports()
    for number in range(MOST_KEPT + 50):
        refused.add(f"{number:03}", 0.0)
    assert f"at 000, 001, 002 and {MOST_KEPT - 3} more are" in refused.told(0.0)


def test_whoever_waits_for_a_node_or_a_gateway_is_told() -> None:
    _, stored = deployed(None, spec())
    assert stored.record.candidate is not None
    waiting = replica(stored.record.candidate.version, 1, ReplicaState.PENDING, reason="waits")
    book = TrafficBook()
    assert TOLD in status_of(stored, [waiting], book, 0.0, "", refused_reports=TOLD).reason


def in_force(revision: int) -> StoredApi:
    stored, _, _ = live(1)
    record = msgspec.structs.replace(stored.record, in_force_since=revision)
    return msgspec.structs.replace(stored, record=record)


def test_whoever_waits_for_callers_is_told_and_nobody_else() -> None:
    _, _, ready = live(1)
    book = TrafficBook()
    alone = status_of(in_force(2), ready, book, 0.0, "", refused_reports=TOLD)
    assert alone.state is ApiState.DEGRADED and TOLD in alone.reason and TOLD in alone.waits_for
    book.add("one", reading(revision=1), 0.0)
    behind = status_of(in_force(2), ready, book, 0.0, "", refused_reports=TOLD)
    assert "gateway one to take the route; " + TOLD in behind.waits_for
    served = status_of(in_force(1), ready, book, 0.0, "", refused_reports=TOLD)
    assert served.state is ApiState.LIVE and TOLD not in served.reason and not served.waits_for
