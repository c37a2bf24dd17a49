"""Turns what gateways have counted into one second's sample of an API. Pure but for its memory."""

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


class Signals:
    """Remembers what was counted of one API when it was looked at last."""

    def __init__(self) -> None:
        self._last: tuple[float, Counted] | None = None

    def sample(self, now_s: float, counted: Counted | None, supply: Supply) -> Sample | None:
        """Return what has come and gone since the last look.

        `counted` is None while any gateway is silent: unknown is not zero, so there is no sample
        then, and the next one is of the whole time. There is none at the first look either.
        Counters that fall have begun anew: what they show is what came since.
        """
        if counted is None:
            return None
        last, self._last = self._last, (now_s, counted)
        if last is None or now_s <= last[0]:
            return None
        at_s, before = last
        return Sample(
            elapsed_s=now_s - at_s,
            arrivals=_since(before.arrivals, counted.arrivals),
            completions=_since(before.completions, counted.completions),
            running=counted.running,
            queued=counted.queued,
            ready=supply.ready,
            starting=supply.starting,
            slots=supply.slots,
            start_up_s=supply.start_up_s,
            queue_limit=supply.queue_limit,
            overdue=supply.overdue,
            target_slots=supply.target_slots,
        )


def _since(before: int, now: int) -> int:
    return now - before if now >= before else now
