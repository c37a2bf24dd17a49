"""Turns what gateways have counted into one second's sample of an API. Pure but for its memory.

How late a report came is no matter: counts go with the time between the readings that they are the
difference of, by the clock of the gateway that made them.
"""

import math
from dataclasses import dataclass

from serai_scheduler.autoscale.history import Sample
from serai_scheduler.traffic import Counted


@dataclass(frozen=True, slots=True)
class Supply:
    """What there is for an API: its replicas, and what one of them can do; units as in `Sample`."""

    ready: int
    starting: int
    slots: float
    start_up_s: float
    queue_limit: int
    overdue: int = 0
    target_slots: float | None = None
    queue_timeout_s: float = math.inf


class Signals:
    """Remembers what was counted of one API up to the last sample.

    `known` says whether the gateways have counted on without a break up to what they told last; a
    look at which some of them have told nothing new yet changes nothing of that.
    """

    def __init__(self) -> None:
        self.known = False
        self._last: Counted | None = None

    def sample(self, counted: Counted | None, supply: Supply) -> Sample | None:
        """Return what has come and gone since the last sample, once every gateway tells of it.

        `counted` is None while any gateway is silent: unknown is not zero, so there is no sample
        then, and the next one is of the whole time. There is none at the first look either, nor
        where a gateway has come, gone or begun anew, or a counter has fallen: what came meanwhile
        is not known, and what is told now is what the next sample is counted from.
        """
        if counted is None:
            self.known = False
            return None
        last = self._last
        if last is None or not _goes_on(last, counted):
            self.known, self._last = False, counted
            return None
        steps_s = [one.at_s - last.told[node].at_s for node, one in counted.told.items()]
        if min(steps_s, default=0.0) <= 0.0:
            return None
        self.known, self._last = True, counted
        return Sample(
            # They all end within about a second of each other, and so does what they begin with.
            elapsed_s=sum(steps_s) / len(steps_s),
            arrivals=counted.arrivals - last.arrivals,
            completions=counted.completions - last.completions,
            running=counted.running,
            queued=counted.queued,
            ready=supply.ready,
            starting=supply.starting,
            slots=supply.slots,
            start_up_s=supply.start_up_s,
            queue_limit=supply.queue_limit,
            overdue=supply.overdue,
            target_slots=supply.target_slots,
            queue_timeout_s=supply.queue_timeout_s,
        )


def _goes_on(before: Counted, now: Counted) -> bool:
    """Say whether the difference of the two is all that came between them."""
    return (
        now.arrivals >= before.arrivals
        and now.completions >= before.completions
        and now.told.keys() == before.told.keys()
        and all(one.stretch == before.told[node].stretch for node, one in now.told.items())
    )
