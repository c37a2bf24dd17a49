"""What is settled second by second: who loses when, what stays where nothing is known."""

from dataclasses import replace

import msgspec

from serai.decisions import MetricAsked
from serai.engine import Capacity, EngineNode
from serai.model import Replica, ReplicaState
from serai.spec.types import Compute
from serai_scheduler.autoscale.account import account_of
from serai_scheduler.autoscale.decide import Limits, decide
from serai_scheduler.autoscale.history import History, Sample
from serai_scheduler.autoscale.scaler import Cause, Verdict
from serai_scheduler.autoscale.sharing import TAKEN_AFTER_S, Around, Settled, Sharing
from serai_scheduler.autoscale.signals import Supply
from serai_scheduler.record import StoredApi
from serai_scheduler.traffic import TrafficBook
from serai_scheduler.views import status_of
from tests.support.scheduling import deployed, replica, spec, with_record

SIX = (EngineNode(name="node", takes=True, capacity=Capacity(gpus=6)),)
UNKNOWN = (EngineNode(name="node", takes=True),)


def api(name: str, priority: int = 50, release: str | None = None) -> StoredApi:
    """Return an API that serves, with replicas of one GPU each."""
    plain = spec(name, low=1, high=20)
    scaling = msgspec.structs.replace(plain.autoscaling, priority=priority, release=release)
    _, stored = deployed(
        None, msgspec.structs.replace(plain, autoscaling=scaling, compute=Compute(gpu=1))
    )
    assert stored.record.candidate is not None
    stable = stored.record.candidate.version
    record = msgspec.structs.replace(stored.record, stable=stable, candidate=None)
    return with_record(record, stored.versions)


def verdict(count: int, rate: int = 10, cause: Cause = "policy", least: int = 1) -> Verdict:
    sample = Sample(
        elapsed_s=1.0,
        arrivals=rate,
        completions=rate,
        running=0,
        queued=0,
        ready=1,
        starting=0,
        slots=1.0,
        start_up_s=30.0,
        queue_limit=100,
    )
    limits = Limits(min_replicas=least, max_replicas=20, target_slots=1.0)
    return Verdict(count, cause, 0.0, limits, Supply(1, 0, 1.0, 30.0, 100), sample=sample)


def run_of(stored: StoredApi, count: int) -> tuple[Replica, ...]:
    name, stable = stored.record.name, stored.record.stable
    return tuple(replica(stable, number, api=name) for number in range(1, count + 1))


def around(
    *apis: StoredApi, running: dict[str, int] | None = None, nodes: tuple[EngineNode, ...] = SIX
) -> Around:
    by_name = {one.record.name: one for one in apis}
    runs = {name: run_of(by_name[name], count) for name, count in (running or {}).items()}
    return Around(by_name, runs, nodes)


def test_nobody_loses_what_it_needs_before_others_have_wanted_it_for_a_while() -> None:
    sharing, there = Sharing(), around(api("a", 10), api("b", 90), running={"a": 6})
    wants = {"a": verdict(6), "b": verdict(4)}
    assert sharing.settle(0.0, wants, there)["a"].count == 6
    first = sharing.settle(TAKEN_AFTER_S - 1.0, wants, there)
    assert first["a"].count == 6 and "held by b" in first["a"].held_back
    assert sharing.settle(TAKEN_AFTER_S, wants, there)["a"].count == 2
    assert sharing.settle(TAKEN_AFTER_S + 1, wants, there)["b"] == Settled(4)


def test_a_moment_of_want_takes_nothing() -> None:
    sharing, there = Sharing(), around(api("a", 10), api("b", 90), running={"a": 6})
    for at_s in range(40):
        wants = {"a": verdict(6), "b": verdict(4 if at_s % 2 else 0, least=0)}
        assert sharing.settle(float(at_s), wants, there)["a"].count == 6


def test_idle_ones_go_at_once_where_others_want_their_places() -> None:
    sharing, there = Sharing(), around(api("a"), api("b"), running={"a": 6})
    alone = sharing.settle(0.0, {"a": verdict(2), "b": verdict(0, least=0)}, there)
    assert alone["a"] == Settled(6, idle=4)
    found = sharing.settle(1.0, {"a": verdict(2), "b": verdict(3)}, there)
    assert (found["a"], found["b"].count) == (Settled(3, idle=1), 3)


def test_a_list_of_apis_tells_who_is_held_back() -> None:
    stored = api("a")
    limits = verdict(9).limits
    settled = Settled(4, "wanted 9, got 4; 2 places are held by b")
    decision = account_of(stored.record, verdict(9), settled, 4)
    status = status_of(stored, run_of(stored, 1), TrafficBook(), 0.0, "", decision=decision)
    told = "the cluster is full for it: wanted 9, got 4; 2 places are held by b"
    assert told in status.reason
    assert (decision.wanted, decision.desired, decision.most) == (4, 9, limits.max_replicas)


def test_one_that_is_to_sleep_sleeps() -> None:
    there = around(api("a"), running={"a": 2})
    assert Sharing().settle(0.0, {"a": verdict(0, least=0)}, there)["a"] == Settled(0)


def test_a_timer_lets_go_of_what_is_not_wanted() -> None:
    there = around(api("a", release="timer"), running={"a": 5})
    assert Sharing().settle(0.0, {"a": verdict(2)}, there)["a"] == Settled(2)


def test_where_no_capacity_is_known_counts_are_as_wanted_and_warm_ones_stay() -> None:
    there = around(api("a"), api("b"), running={"a": 6}, nodes=UNKNOWN)
    found = Sharing().settle(0.0, {"a": verdict(2), "b": verdict(9)}, there)
    assert found == {"a": Settled(6, idle=4), "b": Settled(9)}


def test_what_people_have_set_is_asked_for_in_full_and_before_growth() -> None:
    sharing, there = Sharing(), around(api("a"), api("b"), running={"b": 5})
    wants = {"a": verdict(5, rate=0, cause="pinned"), "b": verdict(5, rate=1000)}
    sharing.settle(0.0, wants, there)
    found = sharing.settle(TAKEN_AFTER_S, wants, there)
    assert (found["a"].count, found["b"].count) == (5, 1)
    too_many = {"a": verdict(9, cause="fixed"), "b": verdict(1)}
    assert sharing.settle(20.0, too_many, there)["a"].count == 9


def test_least_bounds_that_do_not_fit_are_asked_for_all_the_same() -> None:
    there = around(api("a"), api("b"))
    found = Sharing().settle(0.0, {"a": verdict(4, least=4), "b": verdict(4, least=4)}, there)
    assert found["a"].count == found["b"].count == 4
    assert all("wanted 4, got 3" in one.held_back for one in found.values())


def test_replicas_on_their_way_out_hold_no_place() -> None:
    a, b = api("a"), api("b")
    gone = [msgspec.structs.replace(one, state=ReplicaState.DRAINING) for one in run_of(a, 6)[:3]]
    there = Around({"a": a, "b": b}, {"a": (*gone, *run_of(a, 6)[3:])}, SIX)
    found = Sharing().settle(0.0, {"a": verdict(3), "b": verdict(3)}, there)
    assert (found["a"].count, found["b"].count) == (3, 3)


def test_small_changes_of_what_is_asked_for_move_no_place() -> None:
    sharing, counts = Sharing(), set()
    for at_s in range(0, 3600, 10):
        wobble = 2 if at_s % 600 < 300 else -2
        wants = {"a": verdict(9, rate=20 + wobble), "b": verdict(9, rate=20 - wobble)}
        there = around(api("a"), api("b"), running={"a": 3, "b": 3})
        found = sharing.settle(float(at_s), wants, there)
        counts.add((found["a"].count, found["b"].count))
    assert counts == {(3, 3)}


def test_what_a_metric_asks_for_counts_as_load_as_traffic_does() -> None:
    """Both are asked as often; what one needs for it only its metric knows."""

    def wants(metric: MetricAsked | None) -> dict[str, Verdict]:
        history = History()
        history.add(0.0, Sample(1.0, 1, 1, 0, 0, 0, 0, 1.0, 30.0, 100))
        quiet = replace(decide(history, 1.0, Limits(1, 20, 1.0)), held=0.5)
        return {"a": replace(verdict(6), decision=quiet, metric=metric), "b": verdict(6)}

    def given(metric: MetricAsked | None) -> int:
        return Sharing().settle(0.0, wants(metric), around(api("a"), api("b")))["a"].count

    assert given(None) < 3 <= given(MetricAsked(target=1.0, replicas=6, value=6.0, now=6))


def test_an_api_that_only_its_metric_asks_for_gets_its_share() -> None:
    metric = MetricAsked(target=1.0, replicas=9, value=9.0, now=9)
    alone = replace(verdict(9, rate=0), metric=metric)
    verdicts = {"a": alone, "b": verdict(9, rate=3)}
    settled = Sharing().settle(0.0, verdicts, around(api("a"), api("b")))
    assert settled["a"].count == settled["b"].count == 3, "as one with 3 requests/s of 3 s each"
