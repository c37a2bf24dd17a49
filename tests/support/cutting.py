"""Ends the scheduler of a running service at some second and lets another go on: by what was kept
and by what the gateways tell, on clocks of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from serai.report import DEMAND_SLOT_S, DEMAND_SLOTS, DemandSlot, demand_slot
from serai.wire import encode
from serai_scheduler.autoscale.decide import Decision, decide
from serai_scheduler.autoscale.history import History, Sample
from serai_scheduler.autoscale.learned import InForce, keep, read, resume, told
from serai_scheduler.autoscale.start_up import StartUp
from tests.support.autoscaling import Service

WALL_S = 1_700_000_003.4
"""The wall clock when a service began; no slot begins with it."""
OTHER_S = 77_777.0
"""What the next leader's monotonic clock is ahead."""


class Watched(History):
    """A history that remembers what it was told, and what would have been kept at some seconds."""

    def __init__(self, keep_at: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.samples: list[Sample] = []
        self.kept: dict[int, bytes] = {}
        self.held_at: dict[int, float] = {}
        self._keep_at = keep_at

    def add(self, at_s: float, sample: Sample) -> None:
        super().add(at_s, sample)
        self.samples.append(sample)
        if int(at_s) in self._keep_at:
            self.held_at[int(at_s)] = self.held
            self.kept[int(at_s)] = encode(keep(self, StartUp(), at_s, WALL_S + at_s))


@dataclass
class Cut:
    """A service whose scheduler ended after second `at`, and began again `lasted` seconds later."""

    service: Service
    at: int
    lasted: int
    kept_at: int
    history: History = field(default_factory=History)
    decisions: list[Decision] = field(default_factory=list)

    def resume(self, kept: bool = True, slots: bool = True) -> History:
        """Go on with what was kept, what the gateways tell, or without one or both."""
        service, now = self.service, self.at + self.lasted
        found = read(self.watched.kept[self.kept_at] if kept else None, WALL_S + now)
        past = told(slots_of(self.watched.samples, now), WALL_S + now) if slots else None
        in_force = InForce(service.wanted[self.at - 1], service.limits.target_slots)
        self.history = resume(found, past, now + OTHER_S, in_force)
        return self.history

    def go_on(self, seconds: int, change: Callable[[Sample], Sample] | None = None) -> None:
        """See what the unbroken one saw for so long."""
        begun = self.at + self.lasted + len(self.decisions)
        for second in range(begun + 1, min(begun + seconds, len(self.watched.samples)) + 1):
            sample = self.watched.samples[second - 1]
            self.history.add(second + OTHER_S, change(sample) if change else sample)
            decision = decide(self.history, second + OTHER_S, self.service.limits)
            self.history.standing = decision.standing
            self.decisions.append(decision)

    def counts(self) -> list[tuple[int, int]]:
        """Return what the unbroken and the resumed one wanted at each second since."""
        begun = self.at + self.lasted
        unbroken = self.service.wanted[begun : begun + len(self.decisions)]
        return list(zip(unbroken, (one.wanted for one in self.decisions), strict=True))

    def most_since_kept(self) -> int:
        """Return the most requests that there were at once in slots that ended after the keeping.

        Gateways tell no more of a slot than its maximum, so the whole of the first one counts.
        """
        first = demand_slot(WALL_S + self.kept_at) * DEMAND_SLOT_S - WALL_S
        samples = self.watched.samples[max(0, int(first)) : self.at + self.lasted]
        return max(one.running + one.queued for one in samples)

    @property
    def watched(self) -> Watched:
        assert isinstance(self.service.history, Watched)
        return self.service.history


def slots_of(samples: list[Sample], now: int) -> tuple[DemandSlot, ...]:
    """Return what a scheduler's book gives at second `now`: the slots of the last 15 minutes."""
    newest = demand_slot(WALL_S + now)
    found = [DemandSlot()] * DEMAND_SLOTS
    for second in range(max(1, now - DEMAND_SLOT_S * DEMAND_SLOTS), now + 1):
        place = demand_slot(WALL_S + second) - newest + DEMAND_SLOTS - 1
        if place >= 0:
            slot, one = found[place], samples[second - 1]
            found[place] = DemandSlot(
                arrivals=slot.arrivals + one.arrivals,
                completions=slot.completions + one.completions,
                busy_s=slot.busy_s + one.running,
                peak=max(slot.peak, one.running + one.queued),
            )
    return tuple(found)
