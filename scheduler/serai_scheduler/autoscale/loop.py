"""The loop that asks for counts: every second, from what the gateways and the engine have told."""

import asyncio
import logging
from collections.abc import Mapping, Set

from serai.clock import Clock
from serai.decisions import ScaleDecision
from serai.operator import NodeWish, StartProgress
from serai_scheduler.autoscale.account import account_of, worth_keeping
from serai_scheduler.autoscale.learned import told
from serai_scheduler.autoscale.memory import Memory
from serai_scheduler.autoscale.outside import Outside
from serai_scheduler.autoscale.scaler import Past, Scaler, Seen, Verdict, unheard
from serai_scheduler.autoscale.sharing import Around, Settled, Sharing, as_wanted
from serai_scheduler.autoscale.start_up import TIMES_OF_ALL, Times
from serai_scheduler.autoscale.starts import OVERDUE_FACTOR, Starts
from serai_scheduler.ledger import Ledger
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.record import ApiRecord, StoredApi
from serai_scheduler.state import State
from serai_scheduler.traffic import TrafficBook

log = logging.getLogger(__name__)

TICK_S = 1.0
AT_ONCE = 25
"""So many APIs are decided upon before others may run: some milliseconds."""
SMALL = 200
"""Up to how many wanted replicas a cluster is shared without a thread: it takes a few ms."""
WAKE_LEAST_S = 120.0
"""Somebody who wakes an API is taken to wait for so long at least, if none becomes ready."""
TRAFFIC_S = 2.0
SLOTS_AT_ONCE = 500
"""So many slots go to the ledger before others may run: some milliseconds."""
LEARNED_S = 5.0
"""Between two looks at whose turn it is to be kept."""


class Autoscaler:
    """Has a scaler for each API that serves; what they want goes to the reconciler.

    `clock` is the machine's: all windows are monotonic, but schedules, and what gateways tell and
    the ledger keeps, go by the wall clock, which may be set.
    """

    def __init__(
        self,
        clock: Clock,
        state: State,
        traffic: TrafficBook,
        reconciler: Reconciler,
        ledger: Ledger,
        outside: Outside,
        epoch: int,
    ) -> None:
        self._clock = clock
        self._state = state
        self._traffic = traffic
        self._reconciler = reconciler
        self._everyone = Times(TIMES_OF_ALL)
        self._starts: dict[str, Starts] = {}
        self._scalers: dict[str, Scaler] = {}
        self._sharing = Sharing()
        self._memory = Memory(state, epoch)
        self._outside = outside
        self._ledger = ledger
        self._kept: dict[str, ScaleDecision] = {}
        """By API, the decision that went to the ledger last."""
        self.decisions: dict[str, ScaleDecision] = {}
        """By API, the last decision."""
        self._woken: dict[str, float] = {}
        """Since when somebody waits for a first replica, by API."""

    async def tick(self) -> None:
        """Ask for the count of every API; what is wrong with one leaves the others alone."""
        now_s, apis = self._clock.now(), self._state.apis
        known = self._traffic.heard(now_s).known and not self._reconciler.blind
        serving = {
            name: stored
            for name, stored in apis.items()
            if stored.record.stable and stored.record.deleting_since_s is None
        }
        if not await self._memory.recall():
            return
        self._note_starts(now_s, apis.keys())
        verdicts: dict[str, Verdict] = {}
        names = list(serving)
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            ticks = [self._scale(now_s, serving[name], known) for name in some]
            for name, outcome in zip(
                some, await asyncio.gather(*ticks, return_exceptions=True), strict=True
            ):
                if isinstance(outcome, Verdict):
                    verdicts[name] = outcome
                else:  # its count stays as it is
                    log.error("not scaled", extra={"api": name}, exc_info=outcome)
        settled = await self._share(now_s, verdicts, apis) if known else as_wanted(verdicts)
        for number, (name, one) in enumerate(settled.items(), 1):
            if name in self._scalers:  # else what the gateways know of it has not come yet
                self._scalers[name].stands(now_s, min(verdicts[name].count, one.count))
            self._account(serving[name].record, verdicts[name], one)
            if number % AT_ONCE == 0:
                await self._clock.sleep(0)
        specs = {name: one.record.spec for name, one in serving.items()}
        self._outside.follow(specs, self._state.faults.keys())
        # One whose record cannot be read for a while is the same once it can.
        for gone in self._scalers.keys() - serving.keys() - self._state.faults.keys():
            self._memory.ended(gone)
            for book in (self._scalers, self._kept, self.decisions, self._woken):
                book.pop(gone, None)
        start_up_s = {
            name: took_s
            for name, starts in self._starts.items()
            if (took_s := starts.learned_s(now_s)) is not None
        }
        self._reconciler.ask({name: one.count for name, one in settled.items()}, start_up_s)

    def wake(self, api: str) -> None:
        """Take it that somebody waits for a first replica, until one is ready or long overdue."""
        self._woken[api] = self._clock.now()

    def is_woken(self, api: str) -> bool:
        """Say whether somebody is taken to wait for a first replica."""
        return api in self._woken

    def eta_s(self, api: str, version: str) -> float | None:
        """Return how long it usually takes until a replica of a version is ready, None if unknown.

        That is the one that has come farthest, or one that is asked for now.
        """
        starts = self._starts.get(api)
        return None if starts is None else starts.eta_s(self._clock.now(), version)

    def progress(self, api: str) -> dict[str, StartProgress]:
        """Return by replica how far each start of an API has come."""
        starts = self._starts.get(api)
        return starts.progress(self._clock.now()) if starts is not None else {}

    async def keep_learned(self) -> None:
        """Keep what was learned of those whose turn it is, for the next leader."""
        now_s, wall_s = self._clock.now(), self._clock.wall()
        due = self._memory.due(self._scalers.keys(), now_s)
        learned = {name: self._scalers[name].keep(now_s, wall_s) for name in due}
        if kept := {name: one for name, one in learned.items() if one is not None}:
            await self._memory.keep(kept)
        await self._memory.forget_others(self._state.apis.keys() | self._state.faults.keys())

    async def keep_traffic(self) -> None:
        """Hand the slots of demand that are over to the ledger, from which they are replayed."""
        self._ledger.add_traffic(self._traffic.demand.take_over(self._clock.wall(), SLOTS_AT_ONCE))

    def _note_starts(self, now_s: float, apis: Set[str]) -> None:
        for gone in self._starts.keys() - apis - self._state.faults.keys():
            del self._starts[gone]
        classes = {one.name: one.node_class for one in self._reconciler.nodes}
        for name in apis:
            starts = self._starts.setdefault(name, Starts(self._everyone))
            if not self._reconciler.blind:
                there = self._reconciler.by_api.get(name, ())
                starts.note(now_s, there, classes, self._clock.wall())

    async def _scale(self, now_s: float, stored: StoredApi, known: bool) -> Verdict:
        verdict = self._judge(now_s, stored, known)
        self._forget_woken(now_s, stored.record.name, verdict)
        return verdict

    async def _share(
        self, now_s: float, verdicts: Mapping[str, Verdict], apis: Mapping[str, StoredApi]
    ) -> dict[str, Settled]:
        """Share what there is; in a thread what takes long, so that no other loop waits for it."""
        intents, nodes = self._state.intents, self._reconciler.nodes
        emptied = {name for name, one in intents.items() if one.wish is NodeWish.DRAIN}
        emptied |= {node.name for node in nodes if node.drains}
        around = Around(apis, self._reconciler.by_api, nodes, frozenset(emptied))
        if sum(verdict.count for verdict in verdicts.values()) <= SMALL:
            return self._sharing.settle(now_s, verdicts, around)
        return await asyncio.to_thread(self._sharing.settle, now_s, verdicts, around)

    def _forget_woken(self, now_s: float, name: str, verdict: Verdict) -> None:
        limit_s = max(WAKE_LEAST_S, OVERDUE_FACTOR * verdict.supply.start_up_s)
        since_s = self._woken.get(name)
        if since_s is not None and (verdict.supply.ready or now_s - since_s > limit_s):
            del self._woken[name]

    def _account(self, record: ApiRecord, verdict: Verdict, settled: Settled) -> None:
        last = self.decisions.get(record.name)
        before = record.replicas if last is None else last.wanted
        now = self.decisions[record.name] = account_of(record, verdict, settled, before)
        if worth_keeping(self._kept.get(record.name), now):
            self._kept[record.name] = now
            self._ledger.add(now)
        if now.wanted != before:
            log.info("count decided", extra={"api": record.name, "from": before, "to": now.wanted})

    def _judge(self, now_s: float, stored: StoredApi, known: bool) -> Verdict:
        name = stored.record.name
        seen = Seen(
            record=stored.record,
            replicas=self._reconciler.by_api.get(name, ()),
            counted=self._traffic.counted(name, now_s) if known else None,
            wall_s=self._clock.wall(),
            woken=name in self._woken,
            reading=self._outside.metrics.reading(name),
        )
        scaler = self._scalers.get(name)
        if scaler is None:
            if not known and name in self._memory.before:
                return unheard(seen)  # what the gateways remember of it has not come yet
            past = self._past(name, seen.wall_s) if name in self._memory.before else None
            scaler = self._scalers[name] = Scaler(
                now_s, self._starts[name], past, self._outside.policies.make
            )
        return scaler.tick(now_s, seen)

    def _past(self, name: str, wall_s: float) -> Past:
        """Return what is known of an API from before this leader."""
        demand = self._traffic.demand
        tells = demand.peak(name, wall_s) is not None
        slots = told(demand.slots(name, wall_s), wall_s) if tells else None
        return Past(self._memory.found(name, wall_s), slots)
