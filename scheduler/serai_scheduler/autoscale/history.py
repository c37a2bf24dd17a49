"""What an API was asked for, and what that needs: fed once a second, read by `decide`.

Nothing here reads a clock: `at_s` is monotonic and comes from the caller.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import msgspec

from serai.decisions import MetricAsked
from serai.report import DemandSlot
from serai_scheduler.autoscale.demand import Demand, KeptDemand
from serai_scheduler.autoscale.headroom import (
    FLOOR_REPLICAS,
    STEP_S,
    FixedHeadroom,
    Headroom,
    KeptHeadroom,
)
from serai_scheduler.autoscale.hold import Hold, KeptHold
from serai_scheduler.autoscale.windows import (
    Amount,
    Count,
    Highest,
    KeptPoint,
    Mean,
    shortly,
    upwards,
)

NOISE = 0.5
"""How many roots of the demand are added, for arrivals that come by chance (Poisson)."""
QUEUE_S = 2.0
BACKLOG_HOLD_S = 60.0
LONGEST_STEP_S = 60.0
"""A pause in what is told counts as no more than this."""
KEPT_BACKLOGS = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One second of an API over all gateways and versions.

    `arrivals` (those that were refused among them) and `completions` (those that ended on a
    replica) are counts of the last `elapsed_s`; `running`, `queued` (those held for want of a
    replica among them), `ready` and `starting` are of now. `starting` are the replicas that will
    come in the usual time; one that is long overdue is not among them, but among `overdue`.
    `slots` is what one replica runs at once, `target_slots` what of it is to be used (None: all),
    `start_up_s` how long one takes to be ready. At most `queue_limit` requests wait for a slot,
    none for longer than `queue_timeout_s`. `metric` is what a metric asks for, None without one.
    `woken` says that one of the queued is no request, but somebody's wish for a first replica.
    """

    elapsed_s: float
    arrivals: int
    completions: int
    running: int
    queued: int
    ready: int
    starting: int
    slots: float
    start_up_s: float
    queue_limit: int
    metric: MetricAsked | None = None
    overdue: int = 0
    target_slots: float | None = None
    queue_timeout_s: float = math.inf
    woken: bool = False

    @property
    def used_slots(self) -> float:
        """Slots of one replica that are to be used."""
        return self.slots if self.target_slots is None else self.target_slots

    @property
    def wakes(self) -> bool:
        """Say whether a metric is known to ask for a replica."""
        return self.metric is not None and bool(self.metric.now)

    @property
    def busy(self) -> bool:
        """Say whether anything was asked for, runs, waits, or may be asked for by a metric.

        One that is unknown keeps awake what is, and wakes nothing.
        """
        unknown = self.metric is not None and self.metric.now is None
        in_doubt = unknown and bool(self.ready or self.starting or self.overdue)
        return bool(self.arrivals or self.running or self.queued) or self.wakes or in_doubt


@dataclass(frozen=True, slots=True)
class Standing:
    """The count that was decided last, and since when less would have been enough, if it would.

    Enough for what was needed: the lower bound may ask for more all the while.
    """

    wanted: int
    less_since_s: float | None = None


class KeptHistory(msgspec.Struct, frozen=True):
    """What a new leader is told of one API's history: ages, since clocks differ."""

    demand: KeptDemand
    headroom: KeptHeadroom | None
    """None where somebody has set the headroom, so that nothing was learned."""
    hold: KeptHold
    lifted: Amount
    backlog: Annotated[tuple[KeptPoint, ...], msgspec.Meta(max_length=KEPT_BACKLOGS)]
    idle_s: Amount
    wanted: Count | None = None
    less_for_s: Amount | None = None


class History:
    """Everything that `decide` knows of an API."""

    def __init__(
        self, hold: Hold | None = None, headroom: Headroom | FixedHeadroom | None = None
    ) -> None:
        self.demand = Demand()
        self.headroom = headroom or Headroom()
        self.hold = hold or Hold()
        self.lifted = 0.0
        """What is to be ready within one start-up, in slots."""
        self.held = 0.0
        """What is kept of all needs, in slots."""
        self.backlog = Highest(BACKLOG_HOLD_S)
        """The slots that clear the queue."""
        self.standing: Standing | None = None
        """What was decided last."""
        self.last: Sample | None = None
        self._queue = Mean(QUEUE_S)
        self._stepped_at_s: float | None = None
        self._active_at_s: float | None = None
        self._begun = False

    @property
    def awake(self) -> bool:
        """Say whether there is a replica or anything to do for one."""
        last = self.last
        return last is not None and bool(
            last.ready
            or last.starting
            or last.queued
            or last.running
            or last.arrivals
            or last.wakes
        )

    def idle_s(self, now_s: float) -> float:
        """Return for how long nothing has been asked for, 0.0 while that is not known."""
        return 0.0 if self._active_at_s is None else now_s - self._active_at_s

    def add(self, at_s: float, sample: Sample) -> None:
        """Take in a second; `at_s` is later than any before."""
        first, self._begun = not self._begun, True
        self.last = sample
        elapsed_s = min(sample.elapsed_s, LONGEST_STEP_S)
        part = elapsed_s / sample.elapsed_s  # of what came in a pause, as much as of its time
        self.demand.add(
            at_s,
            elapsed_s,
            part * sample.arrivals,
            part * sample.completions,
            sample.running,
            sample.queued,
        )
        self._queue.add(sample.queued, elapsed_s)
        if first or sample.busy:
            self._active_at_s = at_s
        if first:  # what runs is held like any other need: no history is no reason to shrink
            self.held = sample.ready * sample.used_slots
            self.hold.add(at_s, self.held)
        if self._stepped_at_s is None or at_s - self._stepped_at_s >= STEP_S:
            self._stepped_at_s = at_s
            self._step(at_s, sample)
        self.backlog.add(at_s, self._for_queue(sample))

    def begin(self, at_s: float, slots: float) -> None:
        """Hold what runs, in slots, like any need, and all of it for the time that others' word is.

        Nothing is known of some time before `at_s`: no history is no reason to shrink.
        """
        self._begun, self._active_at_s = True, at_s
        self.hold.add(at_s, slots)
        self.hold.tell(at_s, slots)
        self.held = self.hold.kept(at_s)

    def replay(self, at_s: float, elapsed_s: float, slot: DemandSlot) -> None:
        """Take in the `elapsed_s` until `at_s` that only the gateways have seen.

        Whether requests waited then is not told apart from what ran. What ran is taken for demand,
        which is no more than there was room for.
        """
        running = slot.busy_s / elapsed_s
        self.demand.add(at_s, elapsed_s, slot.arrivals, slot.completions, running, 0)
        now = self.demand.now
        self.headroom.recall(at_s, now)
        self.hold.add(at_s, noisy(now))

    def was_there(self, at_s: float, peak: float) -> None:
        """Hold what was there at once by the account of the gateways."""
        if peak > 0.0:
            self._active_at_s = at_s
        self.hold.tell(at_s, peak)
        self.held = self.hold.kept(at_s)

    def keep(self, at_s: float) -> KeptHistory:
        """Return what is to outlive a restart; what it holds is no less than what this holds."""
        standing = self.standing
        less_since_s = standing.less_since_s if standing is not None else None
        return KeptHistory(
            demand=self.demand.keep(at_s),
            headroom=self.headroom.keep(at_s),
            hold=self.hold.keep(at_s),
            lifted=upwards(self.lifted),
            backlog=self.backlog.keep(at_s, KEPT_BACKLOGS),
            idle_s=shortly(self.idle_s(at_s)),
            wanted=standing.wanted if standing is not None else None,
            less_for_s=None if less_since_s is None else shortly(at_s - less_since_s),
        )

    def restore(self, at_s: float, kept: KeptHistory) -> None:
        """Take in what was kept at `at_s`; nothing else has come yet."""
        self._begun, self._active_at_s = True, at_s - kept.idle_s
        self.demand.restore(at_s, kept.demand)
        if kept.headroom is not None:
            self.headroom.restore(at_s, kept.headroom)
        self.hold.restore(at_s, kept.hold)
        self.backlog.restore(at_s, kept.backlog)
        self.lifted, self.held = kept.lifted, self.hold.kept(at_s)
        if kept.wanted is not None:
            less_since_s = None if kept.less_for_s is None else at_s - kept.less_for_s
            self.standing = Standing(kept.wanted, less_since_s)

    def stand(self, wanted: int) -> None:
        """Go on from the count in force, which may have changed after the history was kept."""
        if self.standing is None or self.standing.wanted != wanted:
            self.standing = Standing(wanted)

    def _step(self, at_s: float, sample: Sample) -> None:
        now, slots = self.demand.now, sample.used_slots
        self.lifted = self.headroom.add(
            at_s,
            now,
            self.demand.steady,
            sample.start_up_s,
            floor=FLOOR_REPLICAS * slots,
            ample=now + math.sqrt(now) <= slots,
        )
        self.hold.add(at_s, max(self.lifted, noisy(now)))
        self.held = self.hold.judge(at_s, now, sample.start_up_s)

    def _for_queue(self, sample: Sample) -> float:
        """Return the slots that serve the traffic and clear the queue, 0.0 without one.

        The queue is the one that is there once a replica that is asked for now would be ready;
        while replicas are starting they are the answer to it already. What is held because there is
        no replica at all counts from the first request on.
        """
        waiting = self._queue.value
        asleep = not sample.ready and not sample.starting
        if waiting <= (0.0 if asleep else min(sample.slots, sample.queue_limit) / 2):
            return 0.0
        demand, service_s = self.demand.now, self.demand.service_s
        if sample.starting == 0:
            waiting = self._foreseen(waiting, sample)
            if not asleep and sample.start_up_s > sample.queue_timeout_s:
                # Who waits now will have left by then, and so will who comes until shortly before.
                waiting = min(waiting, self.demand.per_s * sample.queue_timeout_s)
        most = max(sample.queue_limit, self._queue.value)  # what was held may be more than that
        return demand + min(waiting, most) * min(1.0, service_s)

    def _foreseen(self, waiting: float, sample: Sample) -> float:
        """Return the queue that there will be once a replica that is asked for now is ready.

        One that stands full is not worked off by what runs, whatever the means of late tell: more
        is refused than that.
        """
        missing = self.demand.now - sample.slots * sample.ready
        grown = waiting + missing * sample.start_up_s / self.demand.service_s
        full = waiting > sample.queue_limit - 1
        return max(waiting if full else 0.0, grown)


def noisy(demand: float) -> float:
    """Return the slots for a demand whose arrivals come by chance."""
    return demand + NOISE * math.sqrt(demand)
