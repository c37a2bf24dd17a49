"""The shell around `plan`: observe once, plan each API, write what was decided, act.

What is decided is stored before it is done, so that a new leader goes on from the store alone; a
deleted API stays in the store until nothing else is left of it.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from serai.engine import Engine, EngineNode
from serai.errors import Refused, Unavailable
from serai.model import Replica
from serai_scheduler.actions import Forget, Grant
from serai_scheduler.batches import Order, StartAll, StopAll
from serai_scheduler.failures import failed_at_s
from serai_scheduler.nodeplan import plan_nodes
from serai_scheduler.planning import Observation, Planned, Plans, judge_all, plan_all
from serai_scheduler.record import StoredApi
from serai_scheduler.state import State
from serai_scheduler.tending import Tending
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import TrafficBook
from serai_scheduler.world import DEFAULT_LIMITS, Leaving, UpdateLimits

log = logging.getLogger(__name__)

OBSERVE_LIMIT_S = 5.0
ACT_LIMIT_S = 10.0
DELETED_MEMORY_S = 86_400.0
"""How long what comes late of a deleted API, such as a start that hung, is known for a stray."""
NO_STRAYS: Mapping[str, Sequence[Order]] = {}
AT_ONCE = 16
"""How many APIs wait for the store or the engine at the same time."""
SMALL = 200
"""Up to how many replicas and APIs a tick is planned where it is: it takes 1 ms at most, and a
thread keeps the others from running for 5 ms at a time as well."""


class Reconciler:
    """Brings the replicas of every API to what is wanted; it holds no policy of its own."""

    def __init__(
        self,
        clock: TermClock,
        state: State,
        engine: Engine,
        traffic: TrafficBook,
        epoch: int,
        limits: UpdateLimits = DEFAULT_LIMITS,
        small: int = SMALL,
    ) -> None:
        self._clock = clock
        self._state = state
        self._engine = engine
        self._traffic = traffic
        self._epoch = epoch
        self._began_s = clock.wall()
        self._limits = limits
        self._small = small
        self._refusals: dict[str, dict[str, str]] = {}
        self._granted: dict[str, dict[str, float]] = {}
        """By API and version; a new leader says all once more, and the engine compares."""
        self._failed_at_s: dict[str, float] | None = None
        self._kicked = asyncio.Event()
        self._asked: Mapping[str, int] = {}
        self._start_up_s: Mapping[str, float] = {}
        self._told: dict[str, str] = {}
        self._telling: dict[str, str] = {}
        """What the last tick found to stay as it is, and what this one does."""
        self._deleted: dict[str, float] = {}
        """The APIs whose deletion this process has seen of late, and when: nothing of them is to
        run any more. A record that has gone in another way may have been lost."""
        self._tending = Tending(engine, epoch)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.by_api: dict[str, tuple[Replica, ...]] = {}
        self.nodes: tuple[EngineNode, ...] = ()
        """Both as the engine showed them at the last tick that saw them."""
        self.blind = ""
        """Why the last tick saw nothing of the engine, "" when it did."""

    async def aclose(self) -> None:
        """Give no order any more that a pass has left to be carried out."""
        await self._tending.aclose()

    def kick(self) -> None:
        """Ask for a pass now, because something changed."""
        self._kicked.set()

    def ask(self, counts: Mapping[str, int], start_up_s: Mapping[str, float]) -> None:
        """Have so many replicas of each API, where its users have not set a count themselves.

        `start_up_s` says by API how long a replica takes to be ready, where that is known.
        """
        self._start_up_s = start_up_s
        if counts != self._asked:
            self._asked = dict(counts)
            self.kick()

    async def pause(self, period_s: float) -> None:
        """Wait for the next pass: `period_s`, or less when kicked."""
        try:
            async with asyncio.timeout(period_s):
                await self._kicked.wait()
        except TimeoutError:
            pass
        self._kicked.clear()

    async def tick(self) -> None:
        """One pass. A side that is away costs this tick, not the process."""
        try:
            async with asyncio.timeout(OBSERVE_LIMIT_S):
                apis = await self._state.read()
                routes, faults = self._state.routes, self._state.faults
        except (Unavailable, TimeoutError) as away:
            log.warning("tick skipped", extra={"why": str(away) or "no answer in time"})
            return
        self._told, self._telling = self._telling, {}
        replicas = await self._look()
        heard = self._traffic.heard(self._clock.now())
        leaving = await self._tend_nodes(replicas is not None)
        for name, why in faults.items():
            self._tell_once(name, why)
        self._note_deleted(apis)
        refusals, self._refusals = self._refusals, {}
        now_s = self._clock.wall()
        if replicas is not None:
            self._failed_at_s = failed_at_s(replicas, self._failed_at_s, now_s)
        seen = Observation(
            now_s=now_s,
            calendar_s=self._clock.calendar(),
            epoch=self._epoch,
            apis=apis,
            routes=routes,
            known=frozenset((self._deleted.keys() | apis.keys()) - faults.keys()),
            replicas=replicas or (),
            heard=heard,
            refusals=refusals,
            leaving=leaving,
            limits=self._limits,
            granted={api: dict(mine) for api, mine in self._granted.items()},
            blind=self.blind,
            began_s=self._began_s,
            asked=self._asked,
            failed_at_s=self._failed_at_s or {},
            start_up_s=self._start_up_s,
        )
        if self.blind:
            await self._carry_out_each(judge_all(seen))
        else:
            await self._carry_out(await self._plan(seen))

    async def _look(self) -> Sequence[Replica] | None:
        """Return what the engine runs, None when it does not show it."""
        try:
            async with asyncio.timeout(OBSERVE_LIMIT_S):
                replicas = tuple(await self._engine.observe())
                self.nodes = tuple(await self._engine.nodes())
        except (Unavailable, TimeoutError) as away:
            self.blind = str(away) or "the engine did not answer in time"
            log.warning("tick without sight", extra={"why": self.blind})
            return None
        self.blind = ""
        return replicas

    async def _plan(self, seen: Observation) -> Plans:
        """Plan in a thread what takes long, so that no other loop waits for it."""
        if len(seen.replicas) + len(seen.apis) <= self._small:
            return plan_all(seen)
        return await asyncio.to_thread(plan_all, seen)

    async def _carry_out(self, plans: Plans) -> None:
        self.by_api = plans.by_api
        for api in set(plans.unknown) - self._state.faults.keys():
            self._tell_once(api, "replicas run of an API that the store does not know")
        await self._carry_out_each(plans.apis, plans.strays)

    async def _carry_out_each(
        self, plans: Sequence[Planned], strays: Mapping[str, Sequence[Order]] = NO_STRAYS
    ) -> None:
        # An API that waits for the store or the engine holds up no other one; strays come last.
        async with asyncio.TaskGroup() as group:
            for one in plans:
                group.create_task(self._in_turn(one))
            for api, orders in strays.items():
                group.create_task(self._end_strays(api, orders))

    async def _end_strays(self, api: str, orders: Sequence[Order]) -> None:
        async with self._turns:
            await self._act(api, orders)

    async def _in_turn(self, one: Planned) -> None:
        async with self._turns:
            await self._clock.sleep(0)  # others run in between, also where nothing has to wait
            if one.outcome.record is not None:
                if await self._keep(one):
                    await self._act(one.stored.record.name, one.orders)
            # The engine forgets a deleted API before the store does: nobody would know of it then.
            elif await self._act(one.stored.record.name, one.orders):
                await self._keep(one)

    async def _keep(self, one: Planned) -> bool:
        """Store what was decided; False when it could not be."""
        name, outcome = one.stored.record.name, one.outcome
        try:
            if one.changed:
                record, dropped = outcome.record, outcome.drop_versions
                await self._state.write(one.stored, record, one.route, self._epoch, dropped)
        except Refused as refused:
            # Somebody deployed in between: the next tick plans from what is there then.
            log.info("plan overtaken", extra={"api": name, "why": str(refused)})
            return False
        except Unavailable as away:
            log.warning("plan not stored", extra={"api": name, "why": str(away)})
            return False
        for version in outcome.drop_versions:
            self._granted.get(name, {}).pop(version, None)
        if outcome.record is None:
            self._traffic.forget(name)
            self._granted.pop(name, None)
        for message, facts in outcome.events:
            log.info(message, extra=facts)
        return True

    async def _tend_nodes(self, seeing: bool) -> Leaving:
        """Close and open nodes as operators want it; return those that are to be empty."""
        if not seeing:
            await self._tending.give(())
            return Leaving()
        intents = self._state.intents
        steps = plan_nodes(intents, self.nodes, self._clock.wall(), self._began_s)
        for node, why in (await self._tending.give(steps.orders)).items():
            self._tell_once(node, why)
        for node in steps.fulfilled:
            try:
                await self._state.fulfilled(intents[node], self._epoch)
            except (Refused, Unavailable) as error:
                log.info("intent kept", extra={"node": node, "why": str(error)})
        return steps.leaving

    def _note_deleted(self, apis: Mapping[str, StoredApi]) -> None:
        now_s = self._clock.now()
        going = [name for name, one in apis.items() if one.record.deleting_since_s is not None]
        self._deleted.update(dict.fromkeys(going, now_s))
        old = [name for name, at_s in self._deleted.items() if now_s - at_s > DELETED_MEMORY_S]
        for name in old:
            del self._deleted[name]

    def _tell_once(self, what: str, why: str) -> None:
        if self._told.get(what) != why and self._telling.get(what) != why:
            log.warning("left as it is", extra={"what": what, "why": why})
        self._telling[what] = why

    async def _act(self, api: str, orders: Sequence[Order]) -> bool:
        """Give the orders for one API; return whether all were taken."""
        taken = True
        for order in orders:
            try:
                async with asyncio.timeout(ACT_LIMIT_S):
                    await self._give(api, order)
            except Refused as refused:
                taken = False
                log.warning("engine refused", extra={"api": api, "why": str(refused)})
                if isinstance(order, StartAll) and refused.code != "fenced":
                    self._refusals.setdefault(api, {})[order.version.name] = str(refused)
            except (Unavailable, TimeoutError) as away:
                taken = False
                why = str(away) or "no answer in time"
                log.warning("order failed", extra={"api": api, "order": str(order), "why": why})
        return taken

    async def _give(self, api: str, order: Order) -> None:
        match order:
            case StartAll(replicas, version, drain_s):
                log.info("start replicas", extra={"api": api, "replicas": replicas})
                await self._engine.start(replicas, version, self._epoch, drain_s)
            case Grant(version, drain_s):
                await self._engine.grant(version, drain_s, self._epoch)
                self._granted.setdefault(api, {})[version.name] = drain_s
            case StopAll(replicas, grace_s):
                log.info("stop replicas", extra={"api": api, "replicas": replicas})
                await self._engine.stop(replicas, grace_s, self._epoch)
            case Forget(name):
                await self._engine.forget(name, self._epoch)
