"""What is asked of a policy of one's own, and what its answers mean. Pure.

The names in an observation are those that the simulators of policies have, so that one factory
runs in both; `child.py` is the other side.
"""

from dataclasses import dataclass
from typing import Any

from serai import wire
from serai.errors import ConfigError
from serai.model import Value
from serai.spec.scaling import fixed_headroom
from serai.spec.types import ApiSpec
from serai_scheduler.autoscale.decide import Limits
from serai_scheduler.autoscale.history import Sample

MAX_LINE_BYTES = 65_536
MOST_REPLICAS = 10_000
MAX_TEXT = 300

Config = dict[str, Any]
Observation = dict[str, float]


class Question(Value):
    """One line to the child: a decision that is wanted, or at first its configuration."""

    number: int
    now_s: float = 0.0
    observation: Observation | None = None
    config: Config | None = None


class Answer(Value):
    """One line from the child; `count` is None for what is no whole number: `shown` shows it.

    With a `fault` it is the last one: the child ends.
    """

    number: int
    count: int | None = None
    shown: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What a policy said last: a count, or why there is none."""

    count: int | None
    fault: str = ""


def config_of(spec: ApiSpec) -> Config:
    """Return what the factory is given: what the spec sets; None for what it leaves out."""
    scaling, down = spec.autoscaling, spec.autoscaling.down
    slots = spec.concurrency.per_replica
    target, delay = scaling.target_in_flight, None if down is None else down.delay
    return {
        "api": spec.name,
        "max_concurrency": slots,
        "queue_limit": spec.concurrency.queue,
        "min_replicas": scaling.min_replicas,
        "max_replicas": scaling.max_replicas,
        "target_in_flight": float(slots) if target is None else target,
        "warm_up_s": 0.0,
        "window_s": 60.0 if scaling.window is None else scaling.window.seconds,
        "hold_s": None if scaling.hold is None else scaling.hold.seconds,
        "headroom": fixed_headroom(scaling.headroom),
        "down_delay_s": None if delay is None else delay.seconds,
    }


def observation_of(sample: Sample, limits: Limits, standing: int) -> Observation:
    """Return what the policy is told of a second; `standing` is the count that it gave last."""
    return {
        "elapsed_s": sample.elapsed_s,
        "arrivals": sample.arrivals,
        "completions": sample.completions,
        "in_flight": sample.running,
        "queued": sample.queued,
        "ready": sample.ready,
        "starting": sample.starting,
        "max_concurrency": sample.slots,
        "start_up_s": sample.start_up_s,
        "queue_limit": sample.queue_limit,
        "min_replicas": limits.min_replicas,
        "max_replicas": limits.max_replicas,
        "target_in_flight": limits.target_slots,
        "standing": standing,
    }


def answer_in(line: bytes) -> Answer:
    """Read a line of the child; ConfigError for one that is none."""
    return wire.decode(line, Answer)


def judged(answer: Answer) -> Said:
    """Return what an answer means: a count that can be had, or what is wrong with it."""
    if answer.fault:
        return Said(None, f"it raised {shortened(answer.fault)}")
    count = answer.count
    if count is None:
        return Said(None, f"it answered {shortened(answer.shown)}, which is no whole number")
    if not 0 <= count <= MOST_REPLICAS:
        return Said(None, f"it answered {count}, which is not between 0 and {MOST_REPLICAS}")
    return Said(count)


def read(line: bytes, number: int) -> Answer | str:
    """Return the answer to the question of this number, or why the line is none."""
    try:
        answer = answer_in(line)
    except ConfigError as error:
        return f"its process wrote no answer: {shortened(str(error))}"
    return answer if answer.number == number else "its process answered another question"


def shortened(text: str) -> str:
    """Return text of a policy on one bounded line."""
    line = " ".join(text.split())
    printed = "".join(one if one.isprintable() else "?" for one in line)
    return printed if len(printed) <= MAX_TEXT else f"{printed[: MAX_TEXT - 1]}…"
