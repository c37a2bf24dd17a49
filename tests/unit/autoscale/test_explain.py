"""What is kept of a decision, and what is told of it."""

import msgspec
import pytest

from serai.decisions import MetricAsked, ScaleDecision
from serai_scheduler.autoscale.account import worth_keeping
from serai_scheduler.autoscale.explain import explained, metric_away

DECIDED = ScaleDecision(
    api="iris",
    at_s=1000.0,
    cause="policy",
    policy="serai",
    before=4,
    wanted=6,
    least=1,
    most=10,
    slots=4.0,
    target_slots=4.0,
    start_up_s=30.0,
    ready=4,
    starting=2,
    running=16,
    queued=5,
    arrivals_per_s=10.0,
    unbounded=6,
    demand=20.0,
    service_s=2.0,
    lifted=22.0,
    held=23.4,
    peak=23.4,
    peak_age_s=300.0,
    backlog=21.0,
)


def told(**changes: object) -> str:
    return "\n".join(explained(msgspec.structs.replace(DECIDED, **changes)))


def test_every_part_of_a_decision_is_told() -> None:
    assert told() == (
        "iris is to have 6 replicas, 4 replicas before: policy serai decides.\n"
        "Requests arrive at 10 a second, each runs for 2 s on average: that takes 20 slots "
        "(requests at once).\n"
        "With the headroom that was learned it is 22 slots within the 30 s that a start takes.\n"
        "Kept of what was needed of late: 23.4 slots; the highest need was 23.4, 5 min ago.\n"
        "In the queue: 5; with 21 slots what comes is served and the queue cleared.\n"
        "A replica is to run 4 at once: for 23.4 slots that makes 6 replicas.\n"
        "4 are ready, 2 start (a start takes 30 s)."
    )


METRIC = MetricAsked(target=2000.0, replicas=4, value=7900.0, now=4)


def test_what_a_metric_asks_for_is_told_beside_the_traffic() -> None:
    lines = explained(msgspec.structs.replace(DECIDED, unbounded=8, by_traffic=6, metric=METRIC))
    assert "A replica is to run 4 at once: for 23.4 slots that makes 6 replicas." in lines
    assert "The metric asks for 4 replicas (value 7,900 at a target of 2,000 a replica)." in lines
    held = msgspec.structs.replace(METRIC, value=100.0, now=1)
    assert (
        "The metric asks for 1 replica (value 100 at a target of 2,000 a replica); 4 are held of "
        "what it asked for of late."
    ) in told(metric=held)
    asleep = MetricAsked(target=2000.0, replicas=4, value=0.0, now=0)
    assert "so that none is kept awake" in told(metric=asleep, wanted=0, unbounded=0, desired=0)
    own = explained(msgspec.structs.replace(OWN, unbounded=6, by_traffic=2, metric=METRIC))
    assert "Its rule asks for 2 replicas." in own


def test_a_metric_that_is_unknown_is_told_with_since_when_and_what_to_do() -> None:
    fault = "Prometheus gave no answer within 5 s"
    unknown = MetricAsked(target=2000.0, replicas=4, fault=fault, unknown_s=180.0)
    assert (
        "The metric is not known, for 3 min now: Prometheus gave no answer within 5 s. Unknown is "
        "not zero, so 4 replicas are held of what it asked for or what stood before; requests may "
        "add to that, and nothing falls asleep. Once Prometheus gives one number for "
        "`autoscaling.metric.promql` it counts again; without `metric` requests alone do."
    ) in told(metric=unknown)
    asleep = told(metric=unknown, wanted=0, ready=0, unbounded=0, desired=0)
    assert "Unknown wakes nothing" in asleep
    assert metric_away(msgspec.structs.replace(DECIDED, metric=unknown)) == fault
    new = msgspec.structs.replace(unknown, unknown_s=1.0)
    assert not metric_away(msgspec.structs.replace(DECIDED, metric=new)), "it is asked just now"
    known = msgspec.structs.replace(DECIDED, before=6, metric=METRIC)
    assert not metric_away(known) and not metric_away(DECIDED)
    lost = msgspec.structs.replace(known, metric=unknown, at_s=1001.0)
    assert worth_keeping(known, lost) and worth_keeping(lost, known)
    assert not worth_keeping(lost, lost)


OWN = msgspec.structs.replace(
    DECIDED, policy="mine:factory", wanted=6, before=6, demand=None, unbounded=6
)


def test_why_a_policy_of_ones_own_is_held() -> None:
    assert "Its rule asks for 6 replicas." in explained(OWN)
    late = msgspec.structs.replace(OWN, fault="it gave no answer within 0.5 s")
    assert explained(late)[1] == (
        "The policy gives no count: it gave no answer within 0.5 s. The last good one is held, "
        "which is 6 replicas."
    )
    kept = msgspec.structs.replace(OWN, wanted=1, unbounded=1, why="none is asked for, but it runs")
    assert "A replica is kept: none is asked for, but it runs." in explained(kept)
    later = msgspec.structs.replace(late, at_s=1001.0)
    assert worth_keeping(OWN, later) and not worth_keeping(late, later)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"wanted": 2, "desired": 6, "held_back": "wanted 6, got 2; 4 places are held by ocr"},
            "The cluster is full for it: wanted 6, got 2; 4 places are held by ocr.",
        ),
        (
            {"wanted": 6, "desired": 4, "unbounded": 4, "idle": 2},
            "2 replicas of these are warm and not needed",
        ),
        ({"wanted": 10, "unbounded": 14}, "allows 10 at most; without it there would be 14"),
        ({"wanted": 3, "unbounded": 1, "least": 3}, "keeps 3 replicas at least"),
        (
            {"wanted": 3, "unbounded": 1, "least": 3, "window": "0 8 * * MON"},
            "The window of the schedule that began by `0 8 * * MON` keeps 3 replicas at least.",
        ),
        ({"stepped": True, "wanted": 5}, "A limit of steps keeps it at 5 for now"),
        ({"unbounded": 3, "before": 6}, "3 would be enough, and are taken once"),
        ({"unbounded": 0, "least": 0}, "1 would be enough, and is taken once it has been for"),
        ({"wanted": 0, "unbounded": 0}, "for the time of `idle_to_zero`"),
        ({"cause": "pinned", "wanted": 2}, "`serai scale iris --auto` lets its policy (serai)"),
        ({"cause": "fixed", "policy": "fixed"}, "its policy is `fixed`"),
        ({"cause": "unknown"}, "Unknown is not zero, so the count stays"),
        ({"demand": 0.0, "arrivals_per_s": 0.0}, "Nothing is asked for at this moment."),
        ({"overdue": 1}, "1 should have been ready long ago and is not waited for"),
        (
            {"demand": None, "policy": "kpa", "load": 20.0, "why": "the mean of the window"},
            "20 requests run and wait on average: the mean of the window",
        ),
    ],
)
def test_what_differs_is_said(changes: dict[str, object], words: str) -> None:
    assert words in told(**changes)


IDLE = msgspec.structs.replace(
    DECIDED,
    before=1,
    wanted=1,
    least=0,
    unbounded=0,
    idle_s=300.0,
    idle_to_zero_s=900.0,
    queued=0,
    backlog=0.0,
)


def test_why_one_stands_that_nothing_asks_for() -> None:
    assert (
        "One is kept all the same until nothing has been asked for, ran or waited for 15 min "
        "(`idle_to_zero`), which is so for 5 min now."
    ) in explained(IDLE)
    assert (
        "One is kept all the same until nothing has been asked for, ran or waited for 15 min "
        "(`idle_to_zero`)."
    ) in explained(msgspec.structs.replace(IDLE, idle_s=0.0)), "so little makes no whole one"
    stays = explained(msgspec.structs.replace(IDLE, idle_to_zero_s=None))
    assert "The last one stays all the same: no `idle_to_zero` is set." in stays
    unknown = MetricAsked(target=2000.0, replicas=0, fault="it is away", unknown_s=180.0)
    for other in ({"least": 1}, {"idle_s": None}, {"metric": unknown}):
        assert "all the same" not in "\n".join(explained(msgspec.structs.replace(IDLE, **other)))


def test_a_wish_to_wake_is_not_told_as_a_queue() -> None:
    woken = msgspec.structs.replace(IDLE, woken=True, backlog=0.2)
    words = "\n".join(explained(woken))
    assert "Somebody waits for a first replica (`serai wake`, or at the gateway)" in words
    assert "queue" not in words and "Requests waited" not in words
    with_requests = "\n".join(explained(msgspec.structs.replace(woken, queued=3)))
    assert "In the queue: 3;" in with_requests and "Somebody waits" in with_requests


def test_a_change_is_kept_and_one_a_minute() -> None:
    def later(seconds: float, **changes: object) -> ScaleDecision:
        return msgspec.structs.replace(DECIDED, at_s=1000.0 + seconds, **changes)

    assert worth_keeping(None, DECIDED)
    assert not worth_keeping(DECIDED, later(5.0, before=6))
    assert worth_keeping(DECIDED, later(60.0, before=6))
    assert worth_keeping(DECIDED, later(5.0, before=6, wanted=7))
    assert worth_keeping(DECIDED, later(5.0, before=6, cause="unknown"))


def test_an_idle_replica_is_not_said_to_go_soon() -> None:
    words = told(wanted=6, desired=4, unbounded=4, idle=2)
    assert "are taken once" not in words


def test_that_somebody_begins_to_be_held_back_is_kept() -> None:
    same = msgspec.structs.replace(DECIDED, before=6)
    full = msgspec.structs.replace(same, held_back="wanted 9, got 6", at_s=1001.0)
    assert worth_keeping(same, full) and not worth_keeping(full, full)
