"""Carries out routes and registry in HAProxy, with whatever of them is known.

What follows the other side, and what steers, are loops of their own: while store or registry is
away, HAProxy is repaired by what they said last, in an earlier process, too.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import NoReturn, Protocol

from serai import wire
from serai.clock import Clock, backoff
from serai.errors import ConfigError, Refused, Unavailable
from serai.gateways import Gateways
from serai.model import Server
from serai.registry import Registry
from serai.routes import ROUTES, Route
from serai.store import Snapshot, Store
from serai_agent.edge.believe import routes_to_follow, set_back
from serai_agent.edge.files import LastGood
from serai_agent.edge.sharing import Part, part_of, to_share_with

log = logging.getLogger(__name__)

REPAIR_PERIOD_S = 1.0
"""How often HAProxy is compared with what is wanted although nothing changed."""
FOLLOW_WAIT_S = 60.0
LONGEST_PAUSE_S = 5.0

OnLate = Callable[[float, int], None]
"""Hears how late a turn began, and how many were skipped before it."""


class Rhythm:
    """Tells how late a loop is that waits for changes, and for no longer than the repair period."""

    def __init__(self, clock: Clock, on_late: OnLate) -> None:
        self._clock = clock
        self._on_late = on_late
        self._due_s: float | None = None

    def begins(self) -> None:
        """Note that the loop begins another turn."""
        now_s = self._clock.now()
        if self._due_s is not None:
            self._on_late(max(0.0, now_s - self._due_s), 0)

    def waits(self) -> None:
        """Note that it waits from here on."""
        self._due_s = self._clock.now() + REPAIR_PERIOD_S


class Steered(Protocol):
    """What is steered: `serai_agent.edge.gateway.HaproxyGateway`."""

    @property
    def last_good(self) -> LastGood | None: ...

    async def apply(
        self,
        routes: Sequence[Route],
        servers: Sequence[Server],
        elsewhere: frozenset[str] = frozenset(),
    ) -> None: ...


@dataclass(frozen=True)
class Sources:
    """Where orders come from.

    `leader_epoch` reads the leader's epoch from a store that may lose its data; None trusts it.
    """

    store: Store
    registry: Registry
    gateways: Gateways
    leader_epoch: Callable[[], Awaitable[int | None]] | None = None


@dataclass(frozen=True)
class _Orders:
    routes: tuple[Route, ...]
    servers: tuple[Server, ...]
    elsewhere: frozenset[str] = frozenset()


class Steering:
    """The loops of one gateway, named `me` among the gateways."""

    def __init__(self, me: str, clock: Clock, gateway: Steered, sources: Sources) -> None:
        self._me = me
        self._clock = clock
        self._gateway = gateway
        self._sources = sources
        self._changed = asyncio.Event()
        self._routes: tuple[Route, ...] | None = None
        self._routes_at: int | None = None
        self._servers: tuple[Server, ...] | None = None
        self._unheard: frozenset[str] = frozenset()
        self._servers_at = 0
        self._names: frozenset[str] = frozenset()
        self._names_at = 0
        self._shared: tuple[object, Part] | None = None
        self._problems: dict[str, str] = {}
        self.steered = asyncio.Event()
        """Set once orders have been carried out: from then on requests are answered rightly."""
        self.news = asyncio.Event()
        """Set whenever other orders than before have been carried out; whoever tells it clears it.
        """
        self._done: _Orders | None = None

    def problems(self) -> tuple[str, ...]:
        """Return in words what keeps it from following its orders now."""
        return tuple(f"{what}: {why}" for what, why in sorted(self._problems.items()))

    async def run(self, on_late: OnLate) -> NoReturn:
        """Steer at every change, and once a second anyway, until cancelled."""
        self._routes_at, self._servers_at, self._names_at = None, 0, 0
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow("routes", self._read_routes))
            group.create_task(self._follow("registry", self._read_servers))
            group.create_task(self._follow("gateways", self._read_names))
            await self._steer(on_late)
        raise AssertionError("unreachable: no loop above ends")

    async def _steer(self, on_late: OnLate) -> NoReturn:
        rhythm = Rhythm(self._clock, on_late)
        while True:
            rhythm.begins()
            self._changed.clear()
            try:
                await self._apply()
            except (Unavailable, Refused) as error:
                self._tell("haproxy", str(error))
                await self._clock.sleep(REPAIR_PERIOD_S)
            rhythm.waits()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPAIR_PERIOD_S):
                    await self._changed.wait()

    async def _apply(self) -> None:
        orders = self._orders()
        if orders is None:
            return
        await self._gateway.apply(orders.routes, orders.servers, orders.elsewhere)
        self._well("haproxy")
        self.steered.set()
        if orders != self._done:
            self._done = orders
            self.news.set()

    def _orders(self) -> _Orders | None:
        """Return what to carry out; None while that is unknown, which is not nothing."""
        last = self._gateway.last_good
        routes = self._routes if self._routes is not None else last.routes if last else None
        if routes is None:
            return None
        if self._servers is None or not self._names:
            return _Orders(routes, last.servers) if last else None
        draining = frozenset(name for route in routes for name in route.draining)
        part = self._part(self._servers, draining)
        # What was last good has been divided already.
        kept = tuple(one for one in last.servers if one.api in self._unheard) if last else ()
        return _Orders(routes, part.mine + kept, part.elsewhere)

    def _part(self, servers: tuple[Server, ...], draining: Collection[str]) -> Part:
        asked = (servers, self._names, draining)
        if self._shared is None or self._shared[0] != asked:
            part = part_of(self._me, servers, self._names, draining)
            self._shared = (asked, part)
        return self._shared[1]

    # Following -----------------------------------------------------------------------------------

    async def _follow(self, what: str, read: Callable[[], Awaitable[None]]) -> NoReturn:
        pauses = backoff(Random(what), first_s=0.2, cap_s=LONGEST_PAUSE_S)
        while True:
            try:
                await read()
            except (Unavailable, Refused) as error:
                self._tell(what, str(error))
                await self._clock.sleep(next(pauses))
                continue
            self._well(what)
            pauses = backoff(Random(what), first_s=0.2, cap_s=LONGEST_PAUSE_S)

    async def _read_routes(self) -> None:
        after, self._routes_at = self._routes_at, None  # after a failure nothing is known
        store = self._sources.store
        snapshot = (
            await store.scan(ROUTES)
            if after is None
            else await store.watch(ROUTES, after, FOLLOW_WAIT_S)
        )
        routes = await self._believed(self._decoded(snapshot))
        self._routes_at = snapshot.revision
        if routes != self._routes:
            self._routes = routes
            self._changed.set()

    def _held(self) -> tuple[Route, ...]:
        last = self._gateway.last_good
        return self._routes if self._routes is not None else last.routes if last else ()

    def _decoded(self, snapshot: Snapshot) -> tuple[Route, ...]:
        """Return the routes; one that cannot be read stays what it was."""
        held = {ROUTES + route.api: route for route in self._held()}
        routes: list[Route] = []
        for entry in snapshot.entries:
            try:
                routes.append(wire.decode(entry.value, Route))
                self._well(entry.key)
            except ConfigError as error:
                self._tell(entry.key, f"cannot be read: {error}")
                if entry.key in held:
                    routes.append(held[entry.key])
        return tuple(routes)

    async def _believed(self, found: tuple[Route, ...]) -> tuple[Route, ...]:
        held, leader_epoch = self._held(), self._sources.leader_epoch
        # Consul lists nothing to a token without rights; a single key it refuses.
        if leader_epoch is None or (found and not set_back(held, found)):
            return found
        # Read after the routes: whoever took one away had raised the epoch before.
        epoch = await leader_epoch()
        routes = routes_to_follow(held, found, epoch)
        if routes is None:
            raise Unavailable(
                f"the store has lost orders of epoch {max(route.epoch for route in held)} "
                f"(its leader's epoch: {'unknown' if epoch is None else epoch}); the last good "
                "ones stay in force"
            )
        return routes

    async def _read_servers(self) -> None:
        listing = await self._sources.registry.watch(self._servers_at, FOLLOW_WAIT_S)
        self._servers_at = listing.revision
        found = listing.servers, frozenset(listing.unheard)
        if listing.revision and found != (self._servers, self._unheard):
            self._servers, self._unheard = found
            self._changed.set()

    async def _read_names(self) -> None:
        alive = await self._sources.gateways.watch(self._names_at, FOLLOW_WAIT_S)
        self._names_at = alive.revision
        if not alive.revision:
            return
        names = to_share_with(self._me, alive.names, self._names)
        if names != self._names:
            log.info("replicas are shared", extra={"gateways": sorted(names)})
            self._names = names
            self._changed.set()

    def _tell(self, what: str, why: str) -> None:
        if self._problems.get(what) != why:
            log.warning("gateway is not steered as ordered", extra={"what": what, "why": why})
        self._problems[what] = why

    def _well(self, what: str) -> None:
        if self._problems.pop(what, None):
            log.info("gateway is steered as ordered again", extra={"what": what})
