"""The plan of one API, step by step."""

import msgspec
import pytest

from serai.model import Replica, ReplicaState
from serai.spec.types import Timeouts
from serai.units import Duration
from serai_scheduler.actions import Forget, Start, Stop
from serai_scheduler.failures import failed_at_s
from serai_scheduler.plan import KEEP_VERSIONS, RETIRE_LIMIT_S, Outcome, check, plan
from serai_scheduler.record import StoredApi
from serai_scheduler.world import DEFAULT_LIMITS, ApiWorld, GatewayView, Leaving
from tests.support.scheduling import NOW_S, deployed, replica, spec, with_record


def planned(
    stored: StoredApi,
    *replicas: Replica,
    now_s: float = NOW_S,
    gateways: GatewayView | None = None,
    refusals: dict[str, str] | None = None,
    draining: str = "",
    overdue: str = "",
    began_s: float = 0.0,
) -> Outcome:
    """Plan, and hold the invariants against the outcome."""
    leaving = Leaving(frozenset(draining.split()), frozenset(overdue.split()))
    world = ApiWorld(
        now_s,
        now_s,
        stored,
        replicas,
        gateways or GatewayView(),
        refusals or {},
        leaving,
        began_s=began_s,
        failed_at_s=failed_at_s(replicas, None, now_s),
    )
    outcome = plan(world)
    check(world, outcome)
    return outcome


def after(stored: StoredApi, outcome: Outcome) -> StoredApi:
    assert outcome.record is not None
    return with_record(outcome.record, stored.versions, stored)


def carried_out(stored: StoredApi, **queued: int) -> GatewayView:
    """Return a view in which every gateway has carried out the newest route."""
    record = stored.record
    return GatewayView(
        known=True,
        revisions={record.name: record.revision},
        queued={(record.name, version): count for version, count in queued.items()},
        routed=frozenset({record.name}),
    )


def live(count: int = 2) -> tuple[StoredApi, str, list[Replica]]:
    """Return an API that serves with some ready replicas."""
    _, stored = deployed(None, spec(low=count))
    name = stored.record.candidate.version if stored.record.candidate else ""
    ready = [replica(name, number) for number in range(1, count + 1)]
    return after(stored, planned(stored, *ready)), name, ready


def starts(outcome: Outcome) -> list[str]:
    return [action.replica for action in outcome.actions if isinstance(action, Start)]


def stops(outcome: Outcome) -> list[str]:
    return [action.replica for action in outcome.actions if isinstance(action, Stop)]


def test_a_new_api_starts_its_minimum() -> None:
    _, stored = deployed(None, spec(low=3))
    outcome = planned(stored)
    assert len(starts(outcome)) == 3
    assert outcome.record == stored.record


def test_what_has_been_started_is_not_started_again() -> None:
    _, stored = deployed(None, spec(low=2))
    name = starts(planned(stored))[0].split(".")[1]
    one = replica(name, 1, ReplicaState.STARTING)
    assert starts(planned(stored, one)) == [f"iris.{name}.2"]


def test_the_candidate_serves_once_all_its_replicas_are_ready() -> None:
    _, stored = deployed(None, spec(low=2))
    candidate = stored.record.candidate
    assert candidate is not None
    half = planned(
        stored, replica(candidate.version, 1), replica(candidate.version, 2, ReplicaState.LOADING)
    )
    assert half.record is not None and half.record.stable == ""
    whole = planned(stored, replica(candidate.version, 1), replica(candidate.version, 2))
    assert whole.record is not None
    assert (whole.record.stable, whole.record.candidate) == (candidate.version, None)
    assert whole.record.revision > stored.record.revision


def test_the_old_version_drains_only_when_nothing_can_reach_it() -> None:
    stored, old, ready = live()
    _, stored = deployed(stored, spec(low=2), bundle="b")
    candidate = stored.record.candidate
    assert candidate is not None
    fresh = [replica(candidate.version, number) for number in (1, 2)]
    promoted = planned(stored, *ready, *fresh)
    stored = after(stored, promoted)
    assert promoted.record is not None and not promoted.record.draining

    unknown = planned(stored, *ready, *fresh)
    assert unknown.record is not None and not unknown.record.draining, "unknown is not carried out"

    busy = planned(stored, *ready, *fresh, gateways=carried_out(stored, **{old: 3}))
    assert busy.record is not None and not busy.record.draining, "its queue has to empty first"

    empty = planned(stored, *ready, *fresh, gateways=carried_out(stored))
    assert empty.record is not None
    assert {entry.replica for entry in empty.record.draining} == {r.id for r in ready}
    assert not stops(empty)


def test_a_replica_is_stopped_when_nothing_is_in_flight_on_it() -> None:
    stored, _, ready = live()
    record = msgspec.structs.replace(stored.record, replicas=1, spec=spec(low=1))
    stored = with_record(record, stored.versions, stored)
    outcome = planned(stored, *ready)
    assert outcome.record is not None and len(outcome.record.draining) == 1
    leaving = outcome.record.draining[0].replica
    stored = after(stored, outcome)

    view = carried_out(stored)
    busy = GatewayView(True, view.revisions, {leaving: 1}, {}, view.routed)
    assert not stops(planned(stored, *ready, gateways=busy))
    idle = GatewayView(True, view.revisions, {leaving: 0}, {}, view.routed)
    assert stops(planned(stored, *ready, gateways=idle)) == [leaving]
    assert not stops(planned(stored, *ready)), "a silent gateway may have requests on it"


def test_a_drain_has_a_limit() -> None:
    stored, _, ready = live()
    record = msgspec.structs.replace(stored.record, replicas=1, spec=spec(low=1))
    stored = with_record(record, stored.versions, stored)
    stored = after(stored, planned(stored, *ready))
    late_s = NOW_S + spec().timeouts.total.seconds + 60
    assert len(stops(planned(stored, *ready, now_s=late_s))) == 1
    new_leader = planned(stored, *ready, now_s=late_s, began_s=late_s - 10)
    assert not stops(new_leader), "its clock may be another: it waits anew"


def test_a_queue_cannot_keep_an_old_version_for_ever() -> None:
    stored, old, ready = live()
    _, stored = deployed(stored, spec(low=2), bundle="b")
    candidate = stored.record.candidate
    assert candidate is not None
    fresh = [replica(candidate.version, number) for number in (1, 2)]
    stored = after(stored, planned(stored, *ready, *fresh))
    late = planned(
        stored,
        *ready,
        *fresh,
        now_s=NOW_S + RETIRE_LIMIT_S + 1,
        gateways=carried_out(stored, **{old: 3}),
    )
    assert late.record is not None and len(late.record.draining) == 2


@pytest.mark.parametrize("cause", ["failed", "refused", "late", "stuck"])
def test_a_candidate_that_cannot_serve_is_dropped_and_the_old_one_stays(cause: str) -> None:
    stored, old, ready = live()
    _, stored = deployed(stored, spec(low=2), bundle="b")
    candidate = stored.record.candidate
    assert candidate is not None
    state = ReplicaState.FAILED if cause == "failed" else ReplicaState.STARTING
    fresh = replica(candidate.version, 1, state, reason="ImportError: numpy", ended_at_s=NOW_S)
    waited_s = {"late": DEFAULT_LIMITS.ready_s + 1, "stuck": DEFAULT_LIMITS.stuck_s + 1}.get(
        cause, 0.0
    )
    if cause == "stuck":
        fresh = msgspec.structs.replace(fresh, reason="no such GPU", stuck=True)
    outcome = planned(
        stored,
        *ready,
        fresh,
        now_s=NOW_S + waited_s,
        refusals={candidate.version: "no Python 3.99 here"} if cause == "refused" else {},
    )
    record = outcome.record
    assert record is not None
    assert (record.stable, record.candidate) == (old, None)
    assert record.failed_version == candidate.version
    expected = {
        "failed": "ImportError: numpy",
        "refused": "no Python 3.99 here",
        "late": "not ready within 30 min: ImportError: numpy",
        "stuck": "no such GPU",
    }[cause]
    assert record.last_error == expected


def test_a_candidate_without_a_place_has_a_moment_to_get_one() -> None:
    _, stored = deployed(None, spec())
    candidate = stored.record.candidate
    assert candidate is not None
    stuck = replica(candidate.version, 1, ReplicaState.PENDING, reason="no driver")
    stuck = msgspec.structs.replace(stuck, stuck=True)
    outcome = planned(stored, stuck, now_s=NOW_S + DEFAULT_LIMITS.stuck_s - 1)
    assert outcome.record == stored.record
    assert not any(isinstance(action, Start | Stop) for action in outcome.actions)


def test_failures_of_late_delay_the_next_start() -> None:
    stored, name, _ = live(1)
    failed = [
        replica(name, number, ReplicaState.FAILED, ended_at_s=NOW_S) for number in range(1, 5)
    ]
    assert not starts(planned(stored, *failed, now_s=NOW_S + 1))
    assert starts(planned(stored, *failed, now_s=NOW_S + 9)) == [f"iris.{name}.5"]


def test_surplus_goes_least_useful_first() -> None:
    stored, name, _ = live(2)
    record = msgspec.structs.replace(stored.record, replicas=1, spec=spec(low=1))
    stored = with_record(record, stored.versions, stored)
    old = replica(name, 1, created_at_s=NOW_S - 100)
    young = replica(name, 2, created_at_s=NOW_S)
    starting = replica(name, 3, ReplicaState.STARTING)
    outcome = planned(stored, old, young, starting)
    assert stops(outcome) == [starting.id]
    assert outcome.record is not None
    assert [entry.replica for entry in outcome.record.draining] == [young.id]


def test_a_deleted_api_goes_once_no_gateway_routes_to_it() -> None:
    stored, _, ready = live(1)
    record = msgspec.structs.replace(stored.record, deleting_since_s=NOW_S)
    stored = with_record(record, stored.versions, stored)
    routed = GatewayView(True, {"iris": 1}, {}, {}, frozenset({"iris"}))
    assert not stops(planned(stored, *ready, gateways=routed))
    assert stops(planned(stored, *ready, gateways=GatewayView(known=True))) == [ready[0].id]
    gone = planned(stored)
    assert gone.record is None and gone.actions == (Forget("iris"),)
    assert set(gone.drop_versions) == set(stored.versions)


def test_the_check_refuses_a_plan_that_would_stop_everything() -> None:
    stored, _, ready = live(2)
    emptied = planned(stored, *ready)
    assert emptied.record is not None
    bad = Outcome(
        msgspec.structs.replace(emptied.record, stable=""),
    )
    with pytest.raises(AssertionError, match="lost its stable version"):
        check(ApiWorld(NOW_S, NOW_S, stored, tuple(ready), GatewayView(), {}), bad)


def scaled(stored: StoredApi, replicas: int) -> StoredApi:
    record = msgspec.structs.replace(stored.record, replicas=replicas, spec=spec(low=0))
    return with_record(record, stored.versions, stored)


def test_none_and_then_one_again_while_the_last_still_drains() -> None:
    stored, _, ready = live(1)
    emptied = after(stored, planned(scaled(stored, 0), *ready))
    assert [entry.replica for entry in emptied.record.draining] == [ready[0].id]
    assert len(starts(planned(scaled(emptied, 1), *ready))) == 1


def test_one_replica_stays_while_a_queue_waits_for_it() -> None:
    stored, name, ready = live(2)
    none = scaled(stored, 0)
    kept = planned(none, *ready, gateways=carried_out(none, **{name: 3}))
    assert kept.record is not None and len(kept.record.draining) == 1
    gone = planned(none, *ready, gateways=carried_out(none))
    assert gone.record is not None and len(gone.record.draining) == 2


def test_a_version_has_to_run_once_before_it_serves_also_where_none_shall_run() -> None:
    _, stored = deployed(None, spec(low=0))
    assert stored.record.candidate is not None
    first = planned(stored)
    assert first.record is not None and not first.record.stable and len(starts(first)) == 1
    ready = replica(stored.record.candidate.version, 1)
    assert after(stored, planned(stored, ready)).record.stable == ready.version


def test_a_deleted_api_serves_what_waits() -> None:
    stored, name, ready = live(1)
    record = msgspec.structs.replace(stored.record, deleting_since_s=NOW_S)
    deleting = with_record(record, stored.versions, stored)
    away = GatewayView(known=True, queued={(record.name, name): 1})
    assert not stops(planned(deleting, *ready, gateways=away))
    assert stops(planned(deleting, *ready, gateways=GatewayView(known=True)))


def test_the_newest_old_versions_are_kept_and_the_rest_are_dropped() -> None:
    stored, name, ready = live()
    version = stored.versions[name]
    for number in range(101, 101 + KEEP_VERSIONS + 2):
        old = msgspec.structs.replace(version, number=-number, digest=f"{number:08d}")
        stored.versions[old.name] = old
    outcome = planned(stored, *ready, gateways=carried_out(stored))
    dropped = sorted(stored.versions[one].number for one in outcome.drop_versions)
    assert dropped == [-102 - KEEP_VERSIONS, -101 - KEEP_VERSIONS]


def test_requests_of_an_old_version_have_the_time_that_they_were_given() -> None:
    stored, _, ready = live(1)
    short = msgspec.structs.replace(spec(), timeouts=Timeouts(total=Duration(3)))
    _, updating = deployed(stored, short, bundle="b")
    assert updating.record.candidate is not None
    new = replica(updating.record.candidate.version)
    promoted = after(updating, planned(updating, *ready, new))
    draining = after(promoted, planned(promoted, *ready, new, gateways=carried_out(promoted)))
    (entry,) = draining.record.draining
    assert (entry.replica, entry.total_s) == (ready[0].id, 600.0)
    busy = GatewayView(
        known=True,
        revisions={draining.record.name: draining.record.revision},
        in_flight={ready[0].id: 1},
    )
    for waited_s, ended in ((500.0, False), (606.0, True)):
        outcome = planned(draining, *ready, new, now_s=NOW_S + waited_s, gateways=busy)
        assert (ready[0].id in stops(outcome)) == ended


# Nodes that are to be empty ----------------------------------------------------------------------


def test_a_draining_node_is_left_only_as_others_become_ready() -> None:
    stored, name, _ = live(2)
    old = [replica(name, number, node="old") for number in (1, 2)]
    outcome = planned(stored, *old, draining="old")
    assert starts(outcome) == [f"iris.{name}.3", f"iris.{name}.4"]
    assert outcome.record is not None and not outcome.record.draining and not stops(outcome)

    first = replica(name, 3, node="new")
    second = replica(name, 4, ReplicaState.LOADING, node="new")
    outcome = planned(stored, *old, first, second, draining="old")
    assert not starts(outcome) and outcome.record is not None
    assert len(outcome.record.draining) == 1, "one is ready elsewhere, so one may go"

    outcome = planned(stored, *old, first, replica(name, 4, node="new"), draining="old")
    assert outcome.record is not None
    assert {entry.replica for entry in outcome.record.draining} == {one.id for one in old}
    stored = after(stored, outcome)
    new = (first, replica(name, 4, node="new"))
    outcome = planned(stored, *old, *new, draining="old", gateways=carried_out(stored))
    assert sorted(stops(outcome)) == [one.id for one in old]


def test_what_is_not_ready_leaves_a_draining_node_at_once() -> None:
    stored, name, _ = live(1)
    loading = replica(name, 1, ReplicaState.LOADING, node="old")
    outcome = planned(stored, loading, draining="old", gateways=carried_out(stored))
    assert starts(outcome) == [f"iris.{name}.2"] and stops(outcome) == [loading.id]


def test_of_several_on_a_draining_node_those_that_serve_stay() -> None:
    stored, name, _ = live(2)
    serving = replica(name, 1, node="old")
    loading = replica(name, 2, ReplicaState.LOADING, node="old")
    outcome = planned(stored, serving, loading, draining="old", gateways=carried_out(stored))
    assert stops(outcome) == [loading.id] and outcome.record is not None
    assert not outcome.record.draining


def test_a_drain_that_is_called_off_keeps_what_has_not_left() -> None:
    stored, name, _ = live(1)
    old, new = replica(name, 1, node="old"), replica(name, 2, node="new")
    outcome = planned(stored, old, new)
    assert outcome.record is not None and len(outcome.record.draining) == 1, "one is too many"


def test_an_old_version_goes_from_a_draining_node_as_from_any_other() -> None:
    stored, old_name, _ = live(1)
    old = replica(old_name, 1, node="old")
    _, updating = deployed(stored, spec(low=1), bundle="b")
    assert updating.record.candidate is not None
    new = replica(updating.record.candidate.version, 1, node="new")
    promoted = after(updating, planned(updating, old, new, draining="old"))
    outcome = planned(promoted, old, new, draining="old", gateways=carried_out(promoted))
    assert outcome.record is not None
    assert [entry.replica for entry in outcome.record.draining] == [old.id]


def test_a_drain_that_has_waited_long_enough_waits_no_longer() -> None:
    stored, name, _ = live(1)
    old = replica(name, 1, node="old")
    outcome = planned(stored, old, draining="old", overdue="old")
    assert starts(outcome) == [f"iris.{name}.2"] and outcome.record is not None
    assert [entry.replica for entry in outcome.record.draining] == [old.id]
