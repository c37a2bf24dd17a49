"""Demand in slots without the queue in it: what would be in flight if there were always room.

In flight plus queued overstates demand just when help is on the way. A system of any size that
never queues has an occupancy that follows from the arrivals and the mean service time alone
(Little's law); that one is kept here.
"""

import math
from typing import Annotated

import msgspec

from serai_scheduler.autoscale.windows import Amount, Mean, Sums, shortly

SERVICE_WINDOW_S = 600.0
FIRST_GUESS_S = 3.0
"""Of an API of which no request has ended yet; then the guess is what was learned last."""
GUESS_WEIGHT = 0.2
"""The guess counts as so many requests that have ended: it is gone after a few real ones."""
SHORTEST_S, LONGEST_S = 0.001, 3600.0
NOW_S = 5.0
STEADY_S = 60.0
KEPT_PARTS = 4
"""The time of service is kept in so many parts of its window, so that it ages as it would have."""


class KeptDemand(msgspec.Struct, array_like=True, frozen=True):
    """What outlives a restart: slots, but for `calm_s`, the sums (busy seconds, requests) and the
    seconds of `guess_s`, which schedulers of before it did not keep.
    """

    virtual: Amount
    now: Amount
    steady: Amount
    running: Amount
    calm_s: Amount
    served: Annotated[tuple[tuple[Amount, Amount], ...], msgspec.Meta(max_length=KEPT_PARTS)]
    guess_s: Amount = FIRST_GUESS_S


class Demand:
    """Takes in what the gateways count; all means are in slots (requests that run at once)."""

    __slots__ = (
        "_calm_s",
        "_guess_s",
        "_now",
        "_per_s",
        "_running",
        "_served",
        "_steady",
        "_virtual",
        "service_s",
    )

    def __init__(self) -> None:
        self.service_s = FIRST_GUESS_S
        """The mean time that a request runs, without waiting."""
        self._guess_s = FIRST_GUESS_S
        """What it is taken to be once nothing is left of the window."""
        self._virtual = 0.0
        self._served = Sums(SERVICE_WINDOW_S, NOW_S)
        self._now, self._steady, self._running = Mean(NOW_S), Mean(STEADY_S), Mean(STEADY_S)
        self._per_s = Mean(NOW_S)
        self._calm_s = 0.0

    def add(
        self,
        at_s: float,
        elapsed_s: float,
        arrivals: float,
        completions: float,
        running: float,
        queued: int,
    ) -> None:
        """Take in the counts of the last `elapsed_s` seconds, and what runs and waits at `at_s`.

        Refused requests are arrivals, but no completions: with them the mean time of service would
        fall as more is refused, and demand would be what runs, whatever is asked for.
        """
        self._served.add(at_s, running * elapsed_s, completions)
        self._learn_service()
        if completions:  # what only leaves the window teaches nothing: its last part is of ends
            self._guess_s = self.service_s
        kept = math.exp(-elapsed_s / self.service_s)
        rate = arrivals / elapsed_s
        self._per_s.add(rate, elapsed_s)
        self._virtual = self._virtual * kept + rate * self.service_s * (1.0 - kept)
        self._now.add(self._virtual, elapsed_s)
        self._steady.add(self._virtual, elapsed_s)
        self._running.add(running, elapsed_s)
        self._calm_s = 0.0 if queued else self._calm_s + elapsed_s

    def _learn_service(self) -> None:
        busy_s, ended = self._served.totals
        mean_s = (busy_s + self._guess_s * GUESS_WEIGHT) / (ended + GUESS_WEIGHT)
        self.service_s = within(mean_s)

    def keep(self, at_s: float) -> KeptDemand:
        """Return what is to outlive a restart."""
        return KeptDemand(
            virtual=shortly(self._virtual),
            now=shortly(self._now.value),
            steady=shortly(self._steady.value),
            running=shortly(self._running.value),
            calm_s=shortly(min(STEADY_S, self._calm_s)),
            served=self._served.keep(at_s, KEPT_PARTS),
            guess_s=shortly(self._guess_s),
        )

    def restore(self, at_s: float, kept: KeptDemand) -> None:
        """Take in what was kept at `at_s`; nothing else has come yet."""
        self._virtual, self._calm_s = kept.virtual, kept.calm_s
        self._now.restore(kept.now)
        self._steady.restore(kept.steady)
        self._running.restore(kept.running)
        self._guess_s = within(kept.guess_s)
        self._served.restore(at_s, kept.served)
        self._learn_service()

    @property
    def now(self) -> float:
        """Demand of the last seconds.

        Where nothing has waited for a minute, what ran is what was asked for: this counts streams
        that began before anything was known of them.
        """
        return max(self._now.value, self._running.value if self._calm_s >= STEADY_S else 0.0)

    @property
    def per_s(self) -> float:
        """Requests a second that arrived in the last seconds."""
        return self._per_s.value

    @property
    def steady(self) -> float:
        """Demand of the last minute."""
        return self._steady.value


def within(service_s: float) -> float:
    """Return a time of service as it is used: none is shorter or longer than this."""
    return min(LONGEST_S, max(SHORTEST_S, service_s))
