"""What the answers of a policy of one's own mean, and what is held while there is none."""

import pytest

from serai.spec.scaling import Autoscaling, Down
from serai.spec.types import ApiSpec, Concurrency, Pod
from serai.units import Duration
from serai_scheduler.autoscale.decide import Limits
from serai_scheduler.autoscale.history import Sample
from serai_scheduler.autoscale.own.answers import (
    MAX_TEXT,
    Answer,
    Observation,
    Said,
    config_of,
    judged,
    read,
)
from serai_scheduler.autoscale.own.policy import NO_ANSWER_YET, OwnPolicy
from serai_scheduler.autoscale.policies.awake import Awake

LIMITS = Limits(0, 20, 4.0, idle_to_zero_s=60.0)


class Told:
    """Says what a test tells it to, and keeps what it was asked."""

    def __init__(self, said: Said | None = None, takes: bool = True) -> None:
        self.said, self.takes = said, takes
        self.asked: list[Observation] = []

    def ask(self, now_s: float, observation: Observation) -> bool:
        if self.takes:
            self.asked.append(observation)
        return self.takes


def sample(running: int = 0, arrivals: int = 0, queued: int = 0) -> Sample:
    return Sample(1.0, arrivals, arrivals, running, queued, 3, 0, 4.0, 10.0, 100)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(number=1, shown="nan"), "it answered nan, which is no whole number"),
        (Answer(number=1, shown="'three'"), "it answered 'three', which is no whole number"),
        (Answer(number=1, count=-1), "it answered -1, which is not between 0 and 10000"),
        (Answer(number=1, count=10**9), "it answered 1000000000, which is not between 0 and 10000"),
        (Answer(number=1, fault="ValueError: a\nb\x1b"), "it raised ValueError: a b?"),
    ],
)
def test_what_is_no_count_is_told(answer: Answer, fault: str) -> None:
    assert judged(answer) == Said(None, fault)


def test_a_count_is_one() -> None:
    assert judged(Answer(number=1, count=0)) == Said(0)
    assert judged(Answer(number=1, count=10_000)) == Said(10_000)


def test_a_line_that_is_no_answer_to_this_question() -> None:
    assert read(b'{"number":2,"count":3}\n', 2) == Answer(number=2, count=3)
    assert read(b'{"number":1,"count":3}\n', 2) == "its process answered another question"
    broken = read(b'{"number":2,"count":' + b"9" * 5000 + b"}\n", 2)
    assert isinstance(broken, str) and broken.startswith("its process wrote no answer")
    assert len(judged(Answer(number=1, fault="x" * 5000)).fault) < MAX_TEXT + 20


def test_the_last_good_count_is_held_and_that_is_said() -> None:
    told = Told()
    policy = OwnPolicy(told, standing=3)
    policy.add(1.0, sample(running=8))
    choice = policy.decide(1.0, LIMITS)
    assert (choice.wanted, choice.fault) == (3, NO_ANSWER_YET)
    for said, wanted in ((Said(7), 7), (Said(None, "it raised"), 7), (Said(5), 5)):
        told.said = said
        policy.add(2.0, sample(running=8))
        choice = policy.decide(2.0, LIMITS)
        assert (choice.wanted, choice.fault) == (wanted, said.fault)


def test_seconds_that_were_not_told_are_added_up() -> None:
    told = Told(Said(1), takes=False)
    policy = OwnPolicy(told, standing=1)
    for second in range(3):
        policy.add(float(second), sample(arrivals=5))
        policy.decide(float(second), LIMITS)
    told.takes = True
    policy.add(3.0, sample(running=2, arrivals=5))
    policy.decide(3.0, LIMITS)
    assert [(one["elapsed_s"], one["arrivals"], one["in_flight"]) for one in told.asked] == [
        (4.0, 20, 2)
    ]
    policy.decide(4.0, LIMITS)
    assert len(told.asked) == 1, "nothing new, nothing asked"


def test_none_is_kept_only_once_it_was_idle_for_long_enough() -> None:
    policy = Awake(OwnPolicy(Told(Said(0)), standing=2), standing=2)
    counts = []
    for second in range(200):
        policy.add(float(second), sample(running=1 if second < 100 else 0))
        counts.append(policy.decide(float(second), LIMITS).wanted)
    assert set(counts[:159]) == {1} and set(counts[160:]) == {0}
    policy.add(200.0, sample(queued=1))
    choice = policy.decide(200.0, LIMITS)
    assert choice.wanted == 1 and "requests run or wait" in choice.why


def test_the_bounds_hold_whatever_it_answers() -> None:
    policy = OwnPolicy(Told(Said(500)), standing=1)
    policy.add(1.0, sample())
    choice = policy.decide(1.0, LIMITS)
    assert (choice.wanted, choice.unbounded) == (20, 500)


def test_the_factory_is_given_what_the_spec_sets() -> None:
    scaling = Autoscaling(
        policy="mine:factory",
        target_in_flight=3.0,
        window=Duration(90),
        headroom="0.2",
        down=Down(delay=Duration(30)),
    )
    spec = ApiSpec(
        name="iris",
        pod=Pod(command=("serve",)),
        concurrency=Concurrency(per_replica=4, queue=50),
        autoscaling=scaling,
    )
    config = config_of(spec)
    assert (config["api"], config["max_concurrency"], config["queue_limit"]) == ("iris", 4, 50)
    assert (config["target_in_flight"], config["window_s"], config["hold_s"]) == (3.0, 90, None)
    assert (config["headroom"], config["down_delay_s"]) == (0.2, 30)
