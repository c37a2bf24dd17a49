"""What is done about nodes that operators close, empty or open."""

import msgspec

from serai.engine import EngineNode
from serai.model import ReplicaState
from serai.operator import NodeWish
from serai_scheduler.nodeplan import Take, engine_drain_waits_for, plan_nodes, waits_for
from serai_scheduler.record import Draining, NodeIntent
from tests.support.scheduling import NOW_S, deployed, replica, spec

OPEN = EngineNode(name="a", takes=True)
CLOSED = EngineNode(name="a", takes=False, closed=True)
AWAY = EngineNode(name="a", takes=False, reason="down")


def intent(wish: NodeWish, limit_s: float | None = None) -> dict[str, NodeIntent]:
    return {"a": NodeIntent(node="a", wish=wish, since_s=NOW_S, limit_s=limit_s)}


def test_a_node_is_closed_once_and_stays_so() -> None:
    for wish in (NodeWish.CORDON, NodeWish.DRAIN):
        assert plan_nodes(intent(wish), [OPEN], NOW_S).orders == (Take("a", False),)
        assert plan_nodes(intent(wish), [AWAY], NOW_S).orders == (Take("a", False),)
        assert plan_nodes(intent(wish), [CLOSED], NOW_S).orders == ()
        assert plan_nodes(intent(wish), [CLOSED], NOW_S).fulfilled == ()


def test_a_node_that_is_open_again_is_forgotten() -> None:
    assert plan_nodes(intent(NodeWish.OPEN), [CLOSED], NOW_S).orders == (Take("a", True),)
    assert plan_nodes(intent(NodeWish.OPEN), [OPEN], NOW_S).fulfilled == ("a",)


def test_a_node_that_is_gone_keeps_what_is_wanted_of_it() -> None:
    steps = plan_nodes(intent(NodeWish.DRAIN), [], NOW_S)
    assert (steps.orders, steps.fulfilled) == ((), ())
    assert steps.leaving.nodes == {"a"}


def test_only_a_drain_empties_a_node_and_waits_as_long_as_told() -> None:
    assert not plan_nodes(intent(NodeWish.CORDON), [CLOSED], NOW_S).leaving.nodes
    patient = plan_nodes(intent(NodeWish.DRAIN), [CLOSED], NOW_S + 1e6).leaving
    assert patient.nodes == {"a"} and not patient.overdue
    limited = intent(NodeWish.DRAIN, limit_s=60.0)
    assert not plan_nodes(limited, [CLOSED], NOW_S + 59).leaving.overdue
    assert plan_nodes(limited, [CLOSED], NOW_S + 60).leaving.overdue == {"a"}


def test_what_a_drain_waits_for_is_told_line_by_line() -> None:
    _, stored = deployed(None, spec(low=3))
    assert stored.record.candidate is not None
    name = stored.record.candidate.version
    busy, serving, ending = (
        replica(name, 1, node="a"),
        replica(name, 2, node="a"),
        replica(name, 3, ReplicaState.DRAINING, node="a"),
    )
    coming = replica(name, 4, ReplicaState.PENDING, node="", reason="waits for room")
    draining = (Draining(replica=busy.id, since_s=NOW_S, revision=2),)
    record = msgspec.structs.replace(stored.record, draining=draining)
    replicas = [busy, serving, ending, coming, replica(name, 5, node="b")]
    found = waits_for("a", replicas, {"iris": record}, {busy.id: 1})
    assert found == (
        f"iris.{name}.1: 1 request in flight",
        f"iris.{name}.2: until another is ready: waits for room",
        f"iris.{name}.3: it is ending",
    )
    alone = waits_for("a", [serving], {"iris": record}, {})
    assert alone == (f"iris.{name}.2: until another is ready: none has been started yet",)


def test_what_nomads_own_drain_waits_for_is_told() -> None:
    node = EngineNode(name="a", takes=False, closed=True, drains=True, drain_until_s=NOW_S + 58)
    left = [replica("v1", 1, node="a"), replica("v1", 2, node="a"), replica("v1", 3, node="b")]
    assert engine_drain_waits_for(node, left, NOW_S) == (
        "Nomad to move 2 replicas elsewhere, those left in 58 s are ended: iris.v1.1, iris.v1.2",
    )
    patient = msgspec.structs.replace(node, drain_until_s=None)
    assert engine_drain_waits_for(patient, left[1:], NOW_S) == (
        "Nomad to move 1 replica elsewhere, without a limit: iris.v1.2",
    )
    assert engine_drain_waits_for(node, left[2:], NOW_S) == ()
    open_ = EngineNode(name="a", takes=True)
    assert engine_drain_waits_for(open_, left, NOW_S) == ()
