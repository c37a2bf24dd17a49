"""What the policy of one API is told, from its first second on, and what is kept of it."""

from dataclasses import replace

import msgspec
import pytest

from serai.memory import MemoryStore
from serai.model import ReplicaState
from serai.spec.scaling import Autoscaling, Up
from serai.units import Duration
from serai_scheduler.autoscale.account import account_of
from serai_scheduler.autoscale.learned import Found
from serai_scheduler.autoscale.memory import KEEP_S, Memory
from serai_scheduler.autoscale.own.answers import Said
from serai_scheduler.autoscale.scaler import Past, Scaler, Seen
from serai_scheduler.autoscale.sharing import Settled
from serai_scheduler.autoscale.starts import Starts
from serai_scheduler.state import LEARNED_AT_ONCE, State
from serai_scheduler.traffic import Counted, Told
from tests.support.scheduling import deployed, replica
from tests.support.scheduling import spec as api_spec


class Silent:
    """A policy of one's own that never answers."""

    said: Said | None = None

    def ask(self, now_s: float, observation: object) -> bool:
        return False


def counted(second: int, a_second: int = 0) -> Counted:
    """So many come, and as many end, in each second."""
    so_far = a_second * second
    return Counted(so_far, so_far, a_second, 0, {"node": Told(1, float(second))})


def seen(scaling: Autoscaling, ready: int = 1, slots: int = 1, told: Counted | None = None) -> Seen:
    plain = api_spec(low=1, high=50)
    concurrency = msgspec.structs.replace(plain.concurrency, per_replica=slots)
    spec = msgspec.structs.replace(plain, autoscaling=scaling, concurrency=concurrency)
    _, stored = deployed(None, spec)
    record = msgspec.structs.replace(stored.record, stable="v1", replicas=ready, candidate=None)
    there = tuple(replica("v1", number, ReplicaState.READY) for number in range(ready))
    return Seen(record, there, told or counted(0), 1000.0)


def scaler(past: Past | None = None, starts: Starts | None = None) -> Scaler:
    return Scaler(0.0, starts or Starts(), past, lambda target, config: Silent())


@pytest.mark.parametrize(("slots", "target"), [(10, 6.0), (100, 5.0), (1, None)])
def test_an_api_that_nobody_asks_for_never_grows(slots: int, target: float | None) -> None:
    scaling = Autoscaling(min_replicas=1, max_replicas=50, target_in_flight=target)
    one = scaler()
    counts = {one.tick(float(n), seen(scaling, 3, slots, counted(n))).count for n in range(300)}
    assert counts == {3}, "what runs is held for a while, and no more than that"


def test_the_policy_is_told_what_the_spec_says_of_the_queue_and_of_a_replica() -> None:
    scaling = Autoscaling(target_in_flight=6.0)
    one = scaler()
    one.tick(1.0, seen(scaling, 3, 10, counted(1)))
    sample = one.tick(2.0, seen(scaling, 3, 10, counted(2))).sample
    assert sample is not None
    assert (sample.queue_limit, sample.queue_timeout_s) == (100, 30.0)
    assert (sample.slots, sample.target_slots) == (10.0, 6.0)


def test_what_is_told_of_a_wish_to_wake_and_of_idle_time() -> None:
    scaling = Autoscaling(min_replicas=0, idle_to_zero=Duration(900))
    one, asleep = scaler(), replace(seen(scaling, 0, 10, counted(1)), woken=True)
    one.tick(1.0, asleep)
    asleep = replace(asleep, counted=counted(2))
    told = account_of(asleep.record, one.tick(2.0, asleep), Settled(1), 0)
    assert (told.wanted, told.queued, told.woken) == (1, 0, True)
    one, idle = scaler(), seen(scaling, 1, 10)
    for second in range(1, 402):
        verdict = one.tick(float(second), replace(idle, counted=counted(second)))
    told = account_of(idle.record, verdict, Settled(1), 1)
    assert (told.idle_s, told.idle_to_zero_s, told.woken) == (399.0, 900.0, False)
    stays = seen(Autoscaling(min_replicas=0), 1, 10, counted(402))
    assert account_of(stays.record, one.tick(402.0, stays), Settled(1), 1).idle_to_zero_s is None


@pytest.mark.parametrize("pause_s", [30, 110, 300, 3000])
def test_a_pause_in_what_is_told_asks_for_no_more(pause_s: int) -> None:
    """20 requests a second of a second each: before the pause, in it and after."""
    scaling, one, counts = Autoscaling(min_replicas=1, max_replicas=50), scaler(), []
    for second in (*range(1, 900), *range(900 + pause_s, 1800 + pause_s)):
        told = counted(second, 20)
        counts.append(one.tick(float(second), seen(scaling, 3, 10, told)).count)
    assert max(counts[900:]) <= max(counts[600:900]) == 4


@pytest.mark.parametrize("policy", ["kpa", "fixed", "mine:factory"])
def test_how_long_starts_took_is_kept_whatever_the_policy(policy: str) -> None:
    starts = Starts()
    starts.learned.add(0.0, "h100", "warm", 180.0)
    before = scaler(starts=starts)
    before.tick(1.0, seen(Autoscaling(policy=policy)))
    learned = before.keep(2.0, 1000.0)
    assert learned is not None and learned.history is None
    again = Starts()
    after = scaler(Past(Found(learned, 60.0), told=()), again)
    assert again.usual_s(1.0) == pytest.approx(starts.usual_s(1.0))
    assert after.tick(1.0, seen(Autoscaling())).count == 1, "another policy goes on from it, too"


async def test_those_with_nothing_to_keep_take_nobody_s_turn() -> None:
    memory = Memory(State(MemoryStore()), epoch=0)
    empty = [f"fixed-{number:02}" for number in range(LEARNED_AT_ONCE)]
    names = [*empty, "iris", "ocr"]
    assert memory.due(names, 0.0) == []
    turns = [memory.due(names, KEEP_S + second) for second in range(3)]
    assert turns == [empty, ["iris", "ocr"], []]


def test_steps_go_from_what_stood_and_not_from_what_was_wanted() -> None:
    """A full cluster gave 4 of what was wanted: a minute takes 2 more than that, not more."""
    scaling = Autoscaling(min_replicas=1, max_replicas=50, up=Up(limit="2"))
    one, wanted = scaler(), []
    for second in range(1, 900):
        told = counted(second, 20)
        wanted.append(one.tick(float(second), seen(scaling, 4, 1, told)).count)
        one.stands(float(second), min(wanted[-1], 4))
    assert set(wanted[60:]) == {6}


def test_what_was_decided_stands_until_there_is_news_and_is_unknown_without_a_base() -> None:
    scaling, one = Autoscaling(min_replicas=1, max_replicas=50), scaler()
    for second in range(1, 60):
        last = one.tick(float(second), seen(scaling, 4, 1, counted(second, 20)))
    late = one.tick(60.0, seen(scaling, 4, 1, counted(59, 20)))
    assert (last.cause, late.cause, late.count) == ("policy", "policy", last.count)
    again = replace(counted(1, 20), told={"node": Told(2, 1.0)})
    began = one.tick(61.0, seen(scaling, 4, 1, again))
    assert (began.cause, began.count) == ("unknown", 4), "as many as there are"
