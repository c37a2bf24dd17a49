"""A replica whose check fails for the moment may still have requests: it drains like any other."""

from dataclasses import replace

import msgspec

from serai.model import Replica, ReplicaState
from serai_scheduler.plan import Outcome
from serai_scheduler.record import StoredApi
from serai_scheduler.world import GatewayView
from tests.support.scheduling import NOW_S, replica, spec, with_record
from tests.unit.scheduler.test_plan import after, carried_out, live, planned, stops


def one_too_many() -> tuple[StoredApi, Replica, Replica]:
    """Return an API of two replicas that is to have one: a ready one, and one that loads."""
    stored, name, _ = live(2)
    record = msgspec.structs.replace(stored.record, replicas=1, spec=spec(low=1))
    loading = replica(name, 2, ReplicaState.LOADING)
    return with_record(record, stored.versions, stored), replica(name, 1), loading


def busy(stored: StoredApi, replica: Replica) -> GatewayView:
    """Return a view in which every gateway is up to date, and a replica has requests."""
    return replace(carried_out(stored), in_flight={replica.id: 3})


def draining(outcome: Outcome) -> list[str]:
    assert outcome.record is not None
    return [entry.replica for entry in outcome.record.draining]


def test_one_with_requests_in_flight_is_stopped_once_they_have_ended() -> None:
    stored, ready, loading = one_too_many()
    outcome = planned(stored, ready, loading, gateways=busy(stored, loading))
    assert stops(outcome) == [] and draining(outcome) == [loading.id]
    stored = after(stored, outcome)
    outcome = planned(stored, ready, loading, gateways=busy(stored, loading))
    assert stops(outcome) == [], "they are still in flight"
    outcome = planned(stored, ready, loading, gateways=carried_out(stored))
    assert stops(outcome) == [loading.id]


def test_one_that_was_ready_may_get_requests_until_the_gateways_know_better() -> None:
    stored, ready, loading = one_too_many()
    was_ready = msgspec.structs.replace(loading, ready_at_s=NOW_S - 60)
    outcome = planned(stored, ready, was_ready, gateways=carried_out(stored))
    assert stops(outcome) == [] and draining(outcome) == [loading.id]


def test_one_of_two_processes_that_serves_has_requests() -> None:
    stored, ready, loading = one_too_many()
    half = msgspec.structs.replace(loading, servers=ready.servers)
    outcome = planned(stored, ready, half, gateways=carried_out(stored))
    assert stops(outcome) == [] and draining(outcome) == [loading.id]


def test_while_a_gateway_is_silent_nobody_knows_that_one_which_loads_has_none() -> None:
    stored, ready, loading = one_too_many()
    outcome = planned(stored, ready, loading)
    assert stops(outcome) == [] and draining(outcome) == [loading.id]


def test_one_that_never_had_any_is_stopped_at_once() -> None:
    stored, ready, loading = one_too_many()
    outcome = planned(stored, ready, loading, gateways=carried_out(stored))
    assert stops(outcome) == [loading.id] and draining(outcome) == []


def test_one_that_never_had_any_goes_first() -> None:
    stored, name, _ = live(3)
    record = msgspec.structs.replace(stored.record, replicas=2, spec=spec(low=2))
    stored = with_record(record, stored.versions, stored)
    old, new = (replica(name, number, ReplicaState.LOADING) for number in (1, 3))
    was_ready = msgspec.structs.replace(old, ready_at_s=NOW_S - 60)
    ready = replica(name, 2)
    outcome = planned(stored, was_ready, ready, new, gateways=carried_out(stored))
    assert stops(outcome) == [new.id] and draining(outcome) == []


def test_one_that_was_ready_stays_on_a_draining_node_until_another_is() -> None:
    stored, name, _ = live(1)
    loading = replica(name, 1, ReplicaState.LOADING, node="old")
    was_ready = msgspec.structs.replace(loading, ready_at_s=NOW_S - 60)
    gateways = carried_out(stored)
    outcome = planned(stored, was_ready, draining="old", gateways=gateways)
    assert stops(outcome) == [] and draining(outcome) == []
    new = replica(name, 2, node="new")
    outcome = planned(stored, was_ready, new, draining="old", gateways=gateways)
    assert stops(outcome) == [] and draining(outcome) == [was_ready.id]
