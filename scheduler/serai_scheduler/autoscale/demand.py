"""Demand in slots without the queue in it: what would be in flight if there were always room.

In flight plus queued overstates demand just when help is on the way. A system of any size that
never queues has an occupancy that follows from the arrivals and the mean service time alone
(Little's law); that one is kept here.
"""

import math

from serai_scheduler.autoscale.windows import Mean, Sums

SERVICE_WINDOW_S = 600.0
FIRST_GUESS_S = 3.0
GUESS_WEIGHT = 0.2
"""The first guess counts as so many requests that have ended: it is gone after a few real ones."""
SHORTEST_S, LONGEST_S = 0.001, 3600.0
NOW_S = 5.0
STEADY_S = 60.0


class Demand:
    """Takes in what the gateways count; all means are in slots (requests that run at once)."""

    __slots__ = ("_calm_s", "_now", "_running", "_served", "_steady", "_virtual", "service_s")

    def __init__(self) -> None:
        self.service_s = FIRST_GUESS_S
        """The mean time that a request runs, without waiting."""
        self._virtual = 0.0
        self._served = Sums(SERVICE_WINDOW_S, NOW_S)
        self._now, self._steady, self._running = Mean(NOW_S), Mean(STEADY_S), Mean(STEADY_S)
        self._calm_s = 0.0

    def add(
        self,
        at_s: float,
        elapsed_s: float,
        arrivals: int,
        completions: int,
        running: int,
        queued: int,
    ) -> None:
        """Take in the counts of the last `elapsed_s` seconds, and what runs and waits at `at_s`."""
        self._served.add(at_s, running * elapsed_s, completions)
        busy_s, ended = self._served.totals
        mean_s = (busy_s + FIRST_GUESS_S * GUESS_WEIGHT) / (ended + GUESS_WEIGHT)
        self.service_s = min(LONGEST_S, max(SHORTEST_S, mean_s))
        kept = math.exp(-elapsed_s / self.service_s)
        rate = arrivals / elapsed_s
        self._virtual = self._virtual * kept + rate * self.service_s * (1.0 - kept)
        self._now.add(self._virtual, elapsed_s)
        self._steady.add(self._virtual, elapsed_s)
        self._running.add(running, elapsed_s)
        self._calm_s = 0.0 if queued else self._calm_s + elapsed_s

    @property
    def now(self) -> float:
        """Demand of the last seconds.

        Where nothing has waited for a minute, what ran is what was asked for: this counts streams
        that began before anything was known of them.
        """
        return max(self._now.value, self._running.value if self._calm_s >= STEADY_S else 0.0)

    @property
    def steady(self) -> float:
        """Demand of the last minute."""
        return self._steady.value
