"""What each API is to have of a finite cluster, second by second. Pure but for its memory.

Who needs how much is told by what its policy wants and by what it was asked for; both move all the
time, so that what is shared by stays as it is until it is clearly another: two APIs do not swap a
place to and fro.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from serai.engine import EngineNode
from serai.model import Replica, ReplicaState
from serai_scheduler.autoscale.decide import Decision
from serai_scheduler.autoscale.demand import FIRST_GUESS_S
from serai_scheduler.autoscale.places import Contender, shared
from serai_scheduler.autoscale.scaler import Verdict
from serai_scheduler.autoscale.share import Claim, Grant
from serai_scheduler.record import ApiRecord, StoredApi, trial_replicas

RATE_S = 300.0
"""The time that requests a second are averaged over."""
CLEARLY = 0.25
"""By what share of it a figure has to change to count."""
BUSY_S = 60.0
"""An API is being asked for until nothing came, ran or waited for so long."""
QUEUE_S = 60.0
"""What waits for a first replica counts as the requests of so many seconds, where fewer come."""
TAKEN_AFTER_S = 10.0
"""Nobody loses to others what it needs before they have wanted it for so long."""
FIRM_PER_S, FIRM_LOAD = 1e15, 1e3
"""What a count counts as that people have set, or that stays because nothing is known."""
COMING = " (new version)"

Figures = tuple[float, float]
"""Requests a second, and slots that are needed."""


@dataclass(frozen=True, slots=True)
class Around:
    """What there is at one moment: everything stored, what runs, and the nodes.

    Nodes of `emptied` are to be empty.
    """

    apis: Mapping[str, StoredApi]
    replicas: Mapping[str, Sequence[Replica]]
    nodes: Sequence[EngineNode]
    emptied: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Settled:
    """The count that an API is to have.

    `held_back` says what it wanted, what it got and who has the rest, "" where it gets all.
    `idle` of the replicas are warm ones beyond what is wanted, kept until others need their places.
    """

    count: int
    held_back: str = ""
    idle: int = 0


class Sharing:
    """Remembers what APIs were asked for, and since when somebody is to lose a place."""

    def __init__(self) -> None:
        self._rates: dict[str, _Rate] = {}
        self._figures: dict[str, Figures] = {}
        self._losing_since_s: dict[str, float] = {}

    def settle(
        self, now_s: float, verdicts: Mapping[str, Verdict], around: Around
    ) -> dict[str, Settled]:
        """Return what each API is to have that a verdict is about; `now_s` is monotonic.

        Where it is not known what the nodes have, counts are as wanted, and warm ones stay.
        """
        self._keep_only(verdicts.keys())
        contenders = [
            self._contender(around.apis[name], verdict, around.replicas.get(name, ()))
            for name, verdict in verdicts.items()
        ]
        coming = list(_coming(around))
        grants = shared((*contenders, *coming), around.nodes, around.emptied) or {}
        return {
            one.claim.name: self._settled(
                now_s, verdicts[one.claim.name], one.claim, one, grants.get(one.claim.name)
            )
            for one in contenders
        }

    def _keep_only(self, names: Collection[str]) -> None:
        for book in (self._rates, self._figures, self._losing_since_s):
            for gone in book.keys() - names:
                del book[gone]

    def _contender(
        self, stored: StoredApi, verdict: Verdict, replicas: Sequence[Replica]
    ) -> Contender:
        record, limits = stored.record, verdict.limits
        content = stored.versions[record.stable].content
        scaling = record.spec.autoscaling
        release = scaling.release or ("contention" if content.compute.gpu else "timer")
        per_s, load = self._figures_of(record.name, verdict)
        claim = Claim(
            name=record.name,
            wanted=verdict.count,
            least=limits.min_replicas,
            most=limits.max_replicas,
            pools=(),
            priority=float(scaling.priority),
            late_per_s=per_s,
            load=load,
            slots=limits.target_slots,
            busy=_busy(verdict),
            # One that is to sleep does: that is a wish of its own, not a hold that has ended.
            release=release if verdict.count else "timer",
            timer_ended=True,
        )
        return Contender(claim, content.compute, content.nodes, _placed(record, replicas))

    def _figures_of(self, name: str, verdict: Verdict) -> Figures:
        slots = verdict.limits.target_slots
        rate, sample = self._rates.setdefault(name, _Rate()), verdict.sample
        if sample is not None:
            rate.add(sample.arrivals, sample.elapsed_s)
        if verdict.cause != "policy":
            return FIRM_PER_S, FIRM_LOAD * slots
        per_s, load = rate.per_s, verdict.count * slots
        if sample is not None and not sample.ready:  # it wakes up: its rate is yet to come
            per_s = max(per_s, sample.queued / QUEUE_S)
        decision = verdict.decision
        service_s = decision.service_s if isinstance(decision, Decision) else FIRST_GUESS_S
        by_metric = 0.0 if verdict.metric is None else verdict.metric.replicas * slots
        per_s = max(per_s, by_metric / service_s)  # the requests that would keep as many busy
        if isinstance(decision, Decision) and decision.held:
            load = min(load, max(decision.held, by_metric))  # no queue, which comes and goes
        before = self._figures.get(name, (0.0, 0.0))
        now = _moved(before[0], per_s), _moved(before[1], load)
        self._figures[name] = now
        return now

    def _settled(
        self, now_s: float, verdict: Verdict, claim: Claim, one: Contender, grant: Grant | None
    ) -> Settled:
        runs = sum(one.running.values())
        if grant is None:
            warm = min(runs, claim.most) if claim.release == "contention" else 0
            idle = max(0, warm - verdict.count) if verdict.cause == "policy" else 0
            return Settled(verdict.count + idle, idle=idle)
        if verdict.cause != "policy":
            return Settled(verdict.count, grant.reason)
        # Least bounds are asked for in any case: what of them has no place waits for one.
        allowed = max(grant.total, min(claim.least, verdict.count))
        needed = min(runs, verdict.count)
        if allowed >= needed:
            self._losing_since_s.pop(claim.name, None)
            idle = sum(grant.idle.values()) if allowed > verdict.count else 0
            return Settled(allowed, grant.reason, idle)
        since_s = self._losing_since_s.setdefault(claim.name, now_s)
        return Settled(allowed if now_s - since_s >= TAKEN_AFTER_S else needed, grant.reason)


def as_wanted(verdicts: Mapping[str, Verdict]) -> dict[str, Settled]:
    """Return every count as it is wanted, for a moment at which nobody knows what there is."""
    return {name: Settled(verdict.count) for name, verdict in verdicts.items()}


def _busy(verdict: Verdict) -> bool:
    """Say whether an API is being asked for now."""
    decision, sample = verdict.decision, verdict.sample
    if isinstance(decision, Decision):
        return decision.idle_s < BUSY_S
    return sample is not None and sample.busy


@dataclass(slots=True)
class _Rate:
    """Requests a second, those of late more than those of old."""

    arrivals: float = 0.0
    seconds: float = 0.0

    def add(self, arrivals: int, elapsed_s: float) -> None:
        kept = math.exp(-elapsed_s / RATE_S)
        self.arrivals = kept * self.arrivals + arrivals
        self.seconds = kept * self.seconds + elapsed_s

    @property
    def per_s(self) -> float:
        return self.arrivals / self.seconds if self.seconds > 0.0 else 0.0


def _moved(before: float, now: float) -> float:
    """Return a figure as it counts: as before, until it is clearly another."""
    return before if before and abs(now - before) <= CLEARLY * max(before, now) else now


def _placed(record: ApiRecord, replicas: Sequence[Replica], version: str = "") -> dict[str, int]:
    """Return by node how many replicas of a version, the stable one, have a place and keep it."""
    version = version or record.stable
    going = {entry.replica for entry in record.draining}
    found: dict[str, int] = {}
    for one in replicas:
        placed = one.alive and one.node and one.state is not ReplicaState.DRAINING
        if placed and one.version == version and one.id not in going:
            found[one.node] = found.get(one.node, 0) + 1
    return found


def _coming(around: Around) -> Iterator[Contender]:
    """Yield the versions on their way: they have what they have, and get what nobody needs.

    Warm replicas that are idle make room for them, too. The first version of an API has a least
    bound like any other: one replica at least, without which it never serves.
    """
    for name, stored in around.apis.items():
        record, candidate = stored.record, stored.record.candidate
        if candidate is None or record.deleting_since_s is not None:
            continue
        content = stored.versions[candidate.version].content
        running = _placed(record, around.replicas.get(name, ()), candidate.version)
        has, wanted = sum(running.values()), trial_replicas(record, candidate.spec)
        first = 0 if record.stable else max(1, candidate.spec.autoscaling.min_replicas)
        claim = Claim(
            name=name + COMING,
            wanted=wanted,
            least=max(has, min(first, wanted)),
            most=max(has, wanted),
            pools=(),
            priority=float(candidate.spec.autoscaling.priority),
        )
        yield Contender(claim, content.compute, content.nodes, running)
