"""What of an API's history outlives a restart or a failover of the scheduler, and going on from it.

Two sources: what was kept of what has been learned, and what the gateways tell of the last quarter
of an hour. Time that neither knows of does not pass: what was held stays held, and what runs is
held besides. Missing history never shrinks a service.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from serai.errors import ConfigError
from serai.report import DEMAND_SLOT_S, DEMAND_SLOTS, DemandSlot
from serai.wire import decode, encode
from serai_scheduler.autoscale.history import History, KeptHistory
from serai_scheduler.autoscale.metric.need import KeptMetric
from serai_scheduler.autoscale.start_up import KeptStartUp, StartUp

LEARNED_BYTES = 2560
VERSION = 1
OLD_AFTER_S = 3 * 86_400.0
"""What is older than a long weekend tells little of an API's traffic, and is left out."""
REACH_S = float(DEMAND_SLOT_S * DEMAND_SLOTS)
"""How far back the gateways remember."""
SHORTEST_SPAN_S = 1.0


class Learned(msgspec.Struct, frozen=True):
    """What has been learned of one API, as JSON at most LEARNED_BYTES.

    All within is told by its age at `kept_at_s` (wall clock). That is compared with other machines'
    clocks, as are the numbers of the gateways' slots.
    """

    kept_at_s: float
    history: KeptHistory | None
    """None where the policy is none that learns."""
    start_up: KeptStartUp = KeptStartUp()
    metric: KeptMetric | None = None
    version: int = VERSION


class _Versioned(msgspec.Struct):
    version: int


@dataclass(frozen=True, slots=True)
class Found:
    """What was kept, and how long ago; None, and why it is left out, where nothing can be used."""

    learned: Learned | None = None
    age_s: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What all gateways counted in a span of `span_s` seconds that ended `age_s` seconds ago."""

    age_s: float
    span_s: float
    slot: DemandSlot


@dataclass(frozen=True, slots=True)
class InForce:
    """The count that stands, as the record has it, and the slots of a replica that are used."""

    count: int
    target_slots: float


def keep(
    history: History | None,
    start_up: StartUp,
    at_s: float,
    wall_s: float,
    metric: KeptMetric | None = None,
) -> Learned:
    """Return what is to outlive a restart; starts that were longest ago go where it is too much."""
    starts = start_up.keep(at_s)
    kept = history.keep(at_s) if history is not None else None
    learned = Learned(round(wall_s, 1), kept, starts, metric)
    while starts.places and len(encode(learned)) > LEARNED_BYTES:
        starts = KeptStartUp(starts.places[:-1])
        learned = Learned(learned.kept_at_s, learned.history, starts, metric)
    return learned


def read(data: bytes | None, wall_s: float) -> Found:
    """Read what was kept; what cannot be used is left out with the reason, never an error.

    A clock that is behind the one that kept it makes it new.
    """
    if data is None:
        return Found(why="nothing was kept")
    try:
        version = decode(data, _Versioned).version
        if version != VERSION:
            return Found(why=f"it is of version {version}, and this scheduler reads {VERSION}")
        learned = decode(data, Learned)
    except ConfigError as error:
        return Found(why=str(error))
    age_s = max(0.0, wall_s - learned.kept_at_s)
    if age_s > OLD_AFTER_S:
        return Found(why=f"it is {age_s / 86_400.0:.1f} days old")
    return Found(learned, age_s)


def told(slots: Sequence[DemandSlot], wall_s: float) -> tuple[Told, ...]:
    """Return the slots of `DemandBook.slots`, oldest first, with ages.

    The last is under way. Readings are a second apart, which is much of a slot that has only begun:
    so it is told as one with the slot before.
    """
    if not slots:
        return ()
    begun_s = wall_s % DEMAND_SLOT_S
    under_way = len(slots) - 1
    whole = [
        Told((under_way - 1 - place) * DEMAND_SLOT_S + begun_s, float(DEMAND_SLOT_S), slot)
        for place, slot in enumerate(slots[:-1])
    ]
    if not whole:
        return (Told(0.0, begun_s, slots[0]),)
    return (*whole[:-1], Told(0.0, DEMAND_SLOT_S + begun_s, _both(whole[-1].slot, slots[-1])))


def _both(first: DemandSlot, second: DemandSlot) -> DemandSlot:
    return DemandSlot(
        arrivals=first.arrivals + second.arrivals,
        completions=first.completions + second.completions,
        busy_s=first.busy_s + second.busy_s,
        peak=max(first.peak, second.peak),
    )


def resume(
    found: Found,
    told: Iterable[Told] | None,
    at_s: float,
    in_force: InForce,
    history: History | None = None,
) -> History:
    """Return the history to go on with at `at_s` (monotonic); `told` is None while no gateway told.

    `history` is a fresh one that is other than usual, of a hold that somebody has set, say.

    What was there by the gateways' word since it was kept is held in full for a quarter of an hour.
    """
    history = history or History()
    passed_s = min(found.age_s, REACH_S) if told is not None else 0.0
    since_s = at_s - REACH_S
    kept = found.learned.history if found.learned is not None else None
    if kept is not None:
        since_s = at_s - passed_s
        history.restore(since_s, kept)
    for one in sorted(told or (), key=lambda one: -one.age_s):
        _replay(history, at_s - one.age_s, one, since_s)
    if told is None or kept is None or found.age_s > REACH_S:
        history.begin(at_s, in_force.count * in_force.target_slots)
    history.stand(in_force.count)
    return history


def _replay(history: History, at_s: float, one: Told, since_s: float) -> None:
    """Take in a span; of one that began before `since_s` the counts are known already, in part."""
    if at_s <= since_s:
        return
    if at_s - one.span_s >= since_s:
        history.replay(at_s, max(SHORTEST_SPAN_S, one.span_s), one.slot)
    history.was_there(at_s, float(one.slot.peak))


def resume_start_up(start_up: StartUp, found: Found, at_s: float) -> None:
    """Take in the starts that were kept; nothing else has come yet."""
    if found.learned is not None:
        start_up.restore(at_s - found.age_s, found.learned.start_up)
