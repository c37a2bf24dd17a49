"""What the APIs asked of all gateways in the last 15 minutes. Pure but for its memory.

Each gateway keeps this itself and tells all of it to a scheduler that does not know it yet.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from serai.report import DEMAND_SLOTS, Demand, DemandSlot, demand_slot

SETTLED_SLOTS = 2
"""A slot is over for good once the one after it is: by then every gateway has told of it."""
IDLE = DemandSlot()


@dataclass
class _Gateway:
    newest: int = 1
    """The number of the newest slot that it told, which may still grow."""
    heard: int = 0
    """The number of this scheduler's slot in which it was heard last."""
    apis: dict[str, dict[int, DemandSlot]] = field(default_factory=dict)


class DemandBook:
    """Keeps the slots of each gateway; `wall_s` is wall-clock time, by which they are numbered.

    A gateway whose clock is ahead or behind is heard all the same.
    """

    def __init__(self) -> None:
        self._gateways: dict[str, _Gateway] = {}
        self._unkept: dict[int, set[str]] = {}
        """By slot, the APIs of which something was told that has not been taken to be kept."""

    def add(self, node: str, demand: Demand, wall_s: float) -> int:
        """Take in what a gateway tells; return from which slot on it is to tell more (0: all)."""
        number = demand_slot(wall_s)
        known = self._gateways.get(node)
        if demand.since and (known is None or demand.since > known.newest):
            return 0  # what came before it is not known here
        if known is None:
            known = self._gateways[node] = _Gateway()
        if known.heard != number:
            known.heard = number
            self._forget_old(known, number)
        for one in demand.apis:
            slots = known.apis.setdefault(one.api, {})
            for place, slot in enumerate(one.slots, start=one.first):
                if _is_kept(place, number):
                    slots[place] = _more(slots.get(place), slot)
                    known.newest = max(known.newest, place)
                    self._unkept.setdefault(place, set()).add(one.api)
        return known.newest

    def _forget_old(self, told: _Gateway, number: int) -> None:
        told.apis = {
            api: kept
            for api, slots in told.apis.items()
            if (kept := {n: slot for n, slot in slots.items() if _is_kept(n, number)})
        }
        self._gateways = {
            node: one for node, one in self._gateways.items() if _is_kept(one.heard, number)
        }

    def forget(self, api: str) -> None:
        """Drop the past of a deleted API."""
        for gateway in self._gateways.values():
            gateway.apis.pop(api, None)

    def slots(self, api: str, wall_s: float) -> tuple[DemandSlot, ...]:
        """Return the last 15 minutes, the oldest slot first, each summed over the gateways.

        The sum of the gateways' peaks is what there was at once at most.
        """
        number = demand_slot(wall_s)
        return tuple(
            _sum(self._of(api, place)) for place in range(number - DEMAND_SLOTS + 1, number + 1)
        )

    def peak(self, api: str, wall_s: float) -> int | None:
        """Return the most requests that there were at once; None while no gateway has told."""
        if not self._gateways:
            return None
        number = demand_slot(wall_s)
        told = {place for g in self._gateways.values() for place in g.apis.get(api, ())}
        places = (place for place in told if _is_kept(place, number))
        return max((_sum(self._of(api, place)).peak for place in places), default=0)

    def take_over(self, wall_s: float, most: int) -> list[tuple[str, int, DemandSlot]]:
        """Return API, number and sum of slots that are over, and of which news has come since.

        The oldest come first; once there are `most`, the later ones are left for the next call.
        """
        taken: list[tuple[str, int, DemandSlot]] = []
        last = demand_slot(wall_s) - SETTLED_SLOTS
        for place in sorted(one for one in self._unkept if one <= last):
            if len(taken) >= most:
                break
            for api in sorted(self._unkept.pop(place)):
                total = _sum(self._of(api, place))
                if total != IDLE:
                    taken.append((api, place, total))
        return taken

    def _of(self, api: str, place: int) -> Iterator[DemandSlot]:
        for gateway in self._gateways.values():
            if slot := gateway.apis.get(api, {}).get(place):
                yield slot


def _is_kept(place: int, number: int) -> bool:
    return abs(number - place) < DEMAND_SLOTS


def _more(one: DemandSlot | None, other: DemandSlot) -> DemandSlot:
    """Return what of two tellings of a slot is more: within a slot everything only grows."""
    if one is None:
        return other
    return DemandSlot(
        arrivals=max(one.arrivals, other.arrivals),
        completions=max(one.completions, other.completions),
        busy_s=max(one.busy_s, other.busy_s),
        peak=max(one.peak, other.peak),
    )


def _sum(slots: Iterable[DemandSlot]) -> DemandSlot:
    found = tuple(slots)
    return DemandSlot(
        arrivals=sum(slot.arrivals for slot in found),
        completions=sum(slot.completions for slot in found),
        busy_s=sum(slot.busy_s for slot in found),
        peak=sum(slot.peak for slot in found),
    )
