"""Schedulers that lead one after the other, over one store and one engine.

Time passes in ticks: the node does what is due, then whoever leads makes a pass. When the leader is
cut, nobody leads until its lease is over; then a new process does, which knows the store alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from serai.clock import SimClock
from serai.errors import Refused, Unavailable
from serai.lease import LeaseSettings
from serai.memory import LeaseBoard, MemoryLease, MemoryStore
from serai.model import ReplicaState
from serai.operator import NodeWish
from serai.report import GatewayReading
from serai_scheduler.orders import Orders
from serai_scheduler.program.term import SETTLE_S
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.record import StoredApi, wanted_replicas
from serai_scheduler.state import State
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import TrafficBook
from serai_scheduler.world import UpdateLimits
from tests.sim.cluster import SimEngine, SimGateway
from tests.sim.wire import Call, Fate, Wire, WiredEngine, WiredStore

TICK_S = 0.5
MOST_TICKS = 400
LEASE = LeaseSettings(ttl_s=2.0, margin_s=0.5, lock_delay_s=0.5)
LIMITS = UpdateLimits(steady_s=2 * TICK_S)
"""Short, so that updates end between two orders in calm and storm alike: an update that has ended
may have raised the count, which no policy lowers here."""
CALM_TICKS = 3
"""How long nothing may have changed until the world is said to be at rest."""

Order = Callable[[Orders, float], Awaitable[object]]
"""What a user orders, with the wall clock's time."""


class Process:
    """One scheduler from its start to its end; it leads one term at most."""

    def __init__(self, world: "World") -> None:
        self.wire = Wire(world.obeyed)
        self.lease = MemoryLease(world.board, world.clock, LEASE)
        self.held: asyncio.Task[None] | None = None
        """The work that the cut interrupted."""
        self._clock = world.clock
        self._store = WiredStore(self.wire, world.store, self._leads)
        self._engine = WiredEngine(self.wire, world.engine, self._leads)
        self._traffic = TrafficBook()
        self._reconciler: Reconciler | None = None
        self._orders: Orders | None = None

    def _leads(self) -> bool:
        return self.lease.held

    async def begin(self) -> None:
        """Take a new epoch, and know nothing; without one it does not lead."""
        try:
            epoch, state = await self._store.raise_epoch(), State(self._store)
        except Refused:
            return
        self._traffic = TrafficBook(self._clock.now() + SETTLE_S)
        clock = TermClock(self._clock)
        self._reconciler = Reconciler(clock, state, self._engine, self._traffic, epoch, LIMITS)
        self._orders = Orders(clock, state, lambda: None, epoch)

    def hear(self, reading: GatewayReading) -> None:
        self._traffic.add("gateway", reading, self._clock.now())

    async def tick(self) -> None:
        if self._reconciler is not None:
            await self._reconciler.tick()

    async def order(self, order: Order) -> None:
        """Do what a user orders; that it was done already is as good."""
        assert self._orders is not None
        try:
            await order(self._orders, self._clock.wall())
        except Refused as refused:
            assert refused.code in ("updating", "not_found", "fenced"), refused

    async def do(self, work: Coroutine[Any, Any, None]) -> bool:
        """Work until done; False when the process was cut meanwhile."""
        self.held = await self.wire.run(work)
        return self.held is None

    async def end(self) -> None:
        """Die at the cut."""
        assert self.held is not None
        self.held.cancel()
        await asyncio.gather(self.held, return_exceptions=True)
        if self._reconciler is not None:
            await self._reconciler.aclose()

    async def wake(self) -> None:
        """Go on where it was paused, and lead on, for it does not know that another does."""
        assert self.held is not None
        self.wire.go_on()
        await self.held
        for _ in range(CALM_TICKS):
            await self.tick()


@dataclass
class Cut:
    """How a leader ends at a moment, and how many ticks of the next one pass until it is heard of
    again: what it had sent arrives, or it goes on.
    """

    moment: int
    fate: Fate
    away_ticks: int = 0


class World:
    """One seed's world. `next_cut` says how each next leader is to end, None: not at all."""

    def __init__(self, seed: int, next_cut: Callable[[], Cut | None] = lambda: None) -> None:
        self.rng = Random(seed)
        self.clock, self.store, self.board = SimClock(), MemoryStore(), LeaseBoard()
        self.obeyed: list[int] = []
        """The epochs of all orders that were carried out, those that came late left out."""
        self.engine = SimEngine(self.rng, self.clock)
        self.engine.knows_epochs = False
        self.engine.longest_start_s = 2.0
        self.gateway = SimGateway(self.rng, self.store, self.engine)
        self._next_cut = next_cut
        self._leader: Process | None = None
        self._cut: Cut | None = None
        self._gone: list[tuple[Process, Cut]] = []
        self._state = State(self.store)

    async def cut(self, cut: Cut | None) -> Wire:
        """Let the leader end so; its moments count from now on."""
        leader = await self._found()
        self._cut = cut
        leader.wire.cut_at(cut.moment if cut else None)
        return leader.wire

    async def _found(self) -> Process:
        """Return who leads, once somebody does."""
        for _ in range(MOST_TICKS):
            if self._leader is not None:
                return self._leader
            await self.tick()
        raise AssertionError("nobody leads")

    async def order(self, order: Order) -> None:
        """Give an order; again to the next leader when this one ends without an answer."""
        leader = await self._found()
        while not await leader.do(leader.order(order)):
            await self._lose(leader)
            leader = await self._found()

    async def tick(self) -> None:
        """Let time pass."""
        self.engine.step()
        reading = await self.gateway.step()
        if self._leader is None:
            await self._find_leader()
        if (leader := self._leader) is not None:
            if reading is not None:
                leader.hear(reading)
            await self._hear_of_the_gone()
            await leader.lease.renew()
            if not await leader.do(leader.tick()):
                await self._lose(leader)
        await self.clock.sleep(TICK_S)
        await self.check()

    async def _find_leader(self) -> None:
        process = Process(self)
        if not await process.lease.acquire(0.0):
            return
        self._cut = self._next_cut()
        process.wire.cut_at(self._cut.moment if self._cut else None)
        if await process.do(process.begin()):
            self._leader = process
        else:
            await self._lose(process)

    async def _lose(self, leader: Process) -> None:
        assert self._cut is not None
        self._leader = None
        if self._cut.fate is not Fate.PAUSED:
            await leader.end()
        if self._cut.fate is not Fate.KILLED:
            self._gone.append((leader, self._cut))

    async def _hear_of_the_gone(self) -> None:
        for process, cut in list(self._gone):
            if cut.away_ticks > 0:
                cut.away_ticks -= 1
                continue
            self._gone.remove((process, cut))
            if cut.fate is Fate.PAUSED:
                await process.wake()
            elif process.wire.pending is not None:
                await self._arrive(process.wire.pending)

    async def _arrive(self, late: Call) -> None:
        """Carry out what was sent long ago, unless a fence keeps it off."""
        known = len(self.engine.violations)
        try:
            await late()
        except (Refused, Unavailable):
            return
        # A replica that was to end before it was ever ready may be ready by now. No fence helps
        # there: it ends as every program does on SIGTERM, what it has in flight first.
        del self.engine.violations[known:]

    async def rest(self) -> None:
        """Let time pass until everything is as it was asked to be, and stays so."""
        calm = 0
        for _ in range(MOST_TICKS):
            await self.tick()
            quiet = not self._gone and self._leader is not None
            calm = calm + 1 if quiet and await self._settled() else 0
            if calm == CALM_TICKS:
                return
        raise AssertionError(f"no rest: {await self._state.read()}, {self.engine.replicas}")

    async def _settled(self) -> bool:
        apis = await self._state.read()
        alive = [replica for replica in self.engine.replicas if replica.alive]
        drained = {i.node for i in self._state.intents.values() if i.wish is NodeWish.DRAIN}
        return (
            all(one.state is ReplicaState.READY and one.node not in drained for one in alive)
            and {one.api for one in alive} <= set(apis)
            and all(self._as_wanted(stored) for stored in apis.values())
        )

    def _as_wanted(self, stored: StoredApi) -> bool:
        record = stored.record
        mine = [one for one in self.engine.replicas if one.api == record.name and one.alive]
        under_way = record.candidate or record.retiring or record.draining
        return (
            not under_way
            and record.deleting_since_s is None
            and {one.version for one in mine} <= {record.stable}
            and len(mine) == (wanted_replicas(record, record.spec) if record.stable else 0)
            and self.gateway.serving(record.name) == record.stable
        )

    async def check(self) -> None:
        """Assert what must hold at every moment."""
        assert not self.engine.violations, self.engine.violations
        assert self.obeyed == sorted(self.obeyed), "an old leader was obeyed"
        for name, stored in (await self._state.read()).items():
            record, serving = stored.record, self.gateway.serving(name)
            mine = [one for one in self.engine.replicas if one.version == serving]
            ready = [one for one in mine if one.api == name and one.state is ReplicaState.READY]
            if record.stable and serving == record.stable and wanted_replicas(record, record.spec):
                assert ready, f"{name} is served by nothing"

    async def end_state(self) -> dict[str, object]:
        """Return all that lasts but times, revisions, epochs and places."""
        apis = await self._state.read()
        return {
            "apis": {name: _timeless(stored) for name, stored in apis.items()},
            "routes": {
                name: msgspec.structs.replace(route, revision=0, epoch=0)
                for name, route in self._state.routes.items()
            },
            "intents": {one.node: one.wish for one in self._state.intents.values()},
            "nodes": [(one.name, one.closed) for one in await self.engine.nodes()],
            "replicas": sorted((one.id, one.alive) for one in self.engine.replicas),
            "starts": dict(self.engine.starts),
        }


def _timeless(stored: StoredApi) -> StoredApi:
    """Return an API at rest without what differs from run to run."""
    replace = msgspec.structs.replace
    record = replace(
        stored.record, created_at_s=0.0, updated_at_s=0.0, revision=0, in_force_since=0
    )
    versions = {
        name: replace(version, created_at_s=0.0) for name, version in stored.versions.items()
    }
    return StoredApi(record=record, store_revision=0, versions=versions)
