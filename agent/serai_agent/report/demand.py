"""Keeps what each API asked of this gateway in the last 15 minutes. Pure but for its memory.

A scheduler that begins to lead has no past of its own; the gateways hand it theirs.
"""

from dataclasses import dataclass

from serai.report import (
    DEMAND_SLOTS,
    ApiDemand,
    Demand,
    DemandSlot,
    GatewayReading,
    demand_slot,
)

LONGEST_STEP_S = 5.0
"""What was in flight at a reading counts for the time since the one before, but not for longer."""


@dataclass
class _Now:
    arrivals: int = 0
    completions: int = 0
    in_flight: int = 0
    present: int = 0


class DemandHistory:
    """Takes in each reading of the gateway; idle APIs are forgotten by and by."""

    def __init__(self) -> None:
        self._slots: dict[str, dict[int, DemandSlot]] = {}
        self._before: dict[str, _Now] = {}
        self._run = ""
        self._read_at_s: float | None = None
        self._newest = 0
        """The number of the slot of the last reading."""

    def add(self, reading: GatewayReading, now_s: float, wall_s: float) -> None:
        """Take in a reading, made at `now_s` (monotonic) and `wall_s`.

        Counters of a run that began before this process are a base to count from.
        """
        now = _by_api(reading)
        step_s = 0.0
        if self._read_at_s is not None:
            step_s = min(LONGEST_STEP_S, now_s - self._read_at_s)
            if reading.run != self._run:
                self._before = {}
            for api, found in now.items():
                self._count(api, found, step_s, demand_slot(wall_s))
        self._before, self._run, self._read_at_s = now, reading.run, now_s
        self._newest = demand_slot(wall_s)
        self._forget(self._newest)

    def _count(self, api: str, now: _Now, step_s: float, number: int) -> None:
        before = self._before.get(api, _Now())
        arrivals = max(0, now.arrivals - before.arrivals)
        completions = max(0, now.completions - before.completions)
        if not arrivals and not completions and not now.present:
            return
        slots = self._slots.setdefault(api, {})
        slot = slots.get(number, DemandSlot())
        slots[number] = DemandSlot(
            arrivals=slot.arrivals + arrivals,
            completions=slot.completions + completions,
            busy_s=slot.busy_s + now.in_flight * step_s,
            # What came and went between two readings was there, too.
            peak=max(slot.peak, now.present, min(1, arrivals)),
        )

    def _forget(self, number: int) -> None:
        """Forget what is old, and what a clock that was set back has left in the future."""
        for api, slots in list(self._slots.items()):
            for one in [n for n in slots if not number - DEMAND_SLOTS < n <= number]:
                del slots[one]
            if not slots:
                del self._slots[api]

    def since(self, number: int) -> Demand:
        """Return all slots from a number on, those without a request between others included.

        Since a number of the future means that the clock was set back: then all are told, for none
        would be until it is that late again.
        """
        number = number if number <= self._newest else 0
        told = []
        for api, slots in self._slots.items():
            numbers = [one for one in slots if one >= number]
            if numbers:
                first, last = min(numbers), max(numbers)
                empty = DemandSlot()
                columns = tuple(slots.get(one, empty) for one in range(first, last + 1))
                told.append(ApiDemand(api=api, first=first, slots=columns))
        return Demand(since=number, apis=tuple(told))


def _by_api(reading: GatewayReading) -> dict[str, _Now]:
    found: dict[str, _Now] = {}
    for one in reading.versions:
        now = found.setdefault(one.api, _Now())
        now.arrivals += one.arrivals
        now.completions += one.completions
        now.in_flight += one.in_flight
        now.present += one.in_flight + one.queued + one.held
    return found
