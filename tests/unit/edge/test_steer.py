"""What is steered when only a part of the other side is known."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from serai import wire
from serai.clock import SystemClock
from serai.errors import Unavailable
from serai.gateways import Alive
from serai.memory import Changes, MemoryRegistry, MemoryStore
from serai.model import Server
from serai.registry import Listing
from serai.routes import ROUTES, Route
from serai.store import Snapshot, Write
from serai_agent.edge.files import LastGood
from serai_agent.edge.steer import Sources, Steering
from tests.support.wait import auntil
from tests.unit.edge.values import route, server

Applied = tuple[tuple[Route, ...], tuple[Server, ...], frozenset[str]]


class Recorder:
    """A gateway that carries everything out."""

    def __init__(self, last: LastGood | None = None) -> None:
        self.last_good = last
        self.applied: list[Applied] = []

    async def apply(
        self,
        routes: Sequence[Route],
        servers: Sequence[Server],
        elsewhere: frozenset[str] = frozenset(),
    ) -> None:
        self.applied.append((tuple(routes), tuple(servers), elsewhere))
        self.last_good = LastGood(routes=tuple(routes), servers=tuple(servers), slots={})


class Names:
    """The list of gateways, set by hand."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._names: tuple[str, ...] = ()

    def become(self, *names: str) -> None:
        self._names = names
        self._changes.raise_to(self._changes.revision + 1)

    async def watch(self, after: int, wait_s: float) -> Alive:
        await self._changes.beyond(after, wait_s)
        return Alive(revision=self._changes.revision, names=self._names)


class PartlyHeard(MemoryRegistry):
    """A registry of which some APIs' servers may be unknown."""

    def __init__(self) -> None:
        super().__init__()
        self.unheard: dict[str, str] = {}

    async def watch(self, after: int, wait_s: float) -> Listing:
        found = await super().watch(after, wait_s)
        return msgspec.structs.replace(found, unheard=self.unheard)


class World:
    """All that a gateway named `me` may know, and that gateway."""

    def __init__(self, last: LastGood | None = None) -> None:
        self.gateway = Recorder(last)
        self.store = MemoryStore()
        self.registry = PartlyHeard()
        self.names = Names()
        self.epoch: int | None = None
        sources = Sources(self.store, self.registry, self.names, self._epoch)
        self.steering = Steering("me", SystemClock(), self.gateway, sources)

    async def _epoch(self) -> int | None:
        return self.epoch

    async def order(self, *routes: Route | str) -> None:
        writes = [
            Write(key=ROUTES + one, value=None)
            if isinstance(one, str)
            else Write(key=ROUTES + one.api, value=wire.encode(one))
            for one in routes
        ]
        await self.store.commit(writes, 1)

    async def until(self, *expected: object) -> None:
        await auntil(lambda: self.gateway.applied and self.gateway.applied[-1] == expected)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.steering.run(lambda late_s, missed: None))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


LAST = LastGood(routes=(route(epoch=3),), servers=(server(capacity=1),), slots={})


async def test_before_anything_is_known_the_last_orders_are_in_force() -> None:
    world = World(LAST)
    world.epoch = 2
    async with world.running():
        await world.until(LAST.routes, LAST.servers, frozenset())
        await auntil(world.steering.problems)
        assert "lost orders of epoch 3 (its leader's epoch: 2)" in world.steering.problems()[0]


async def test_servers_of_an_api_that_nobody_has_told_stay_as_they_were_last_good() -> None:
    text = server("text", capacity=7)
    routes = (route(epoch=3), route("text", epoch=3))
    world = World(LastGood(routes=routes, servers=(server(capacity=1), text), slots={}))
    world.epoch = 3
    world.registry.unheard = {"iris": "Consul does not answer"}
    world.registry.publish([])
    async with world.running():
        await world.order(*routes)
        world.names.become("me")
        await world.until(routes, (server(capacity=1),), frozenset())
        world.registry.unheard = {}
        world.registry.publish([text])
        await world.until(routes, (text,), frozenset())


async def test_a_new_gateway_waits_for_routes_and_servers() -> None:
    world = World()
    async with world.running():
        await world.order(route())
        world.names.become("me")
        assert not world.steering.steered.is_set()
        world.registry.publish([server()])
        await world.until((route(),), (server(),), frozenset())
        assert world.steering.steered.is_set()


async def test_routes_that_vanish_stay_until_the_leader_is_known() -> None:
    world = World()
    world.names.become("me")
    world.registry.publish([])
    async with world.running():
        await world.order(route(epoch=4), route("text", epoch=4))
        await world.until((route(epoch=4), route("text", epoch=4)), (), frozenset())
        await world.order("iris", "text")
        await auntil(world.steering.problems)
        world.registry.publish([server()])  # servers are followed all the same
        await world.until((route(epoch=4), route("text", epoch=4)), (server(),), frozenset())
        world.epoch = 4
        await world.until((), (server(),), frozenset())
        assert not world.steering.problems()


async def test_a_route_that_cannot_be_read_stays_what_it_was() -> None:
    world = World()
    world.names.become("me")
    world.registry.publish([])
    async with world.running():
        await world.order(route())
        await world.until((route(),), (), frozenset())
        await world.store.commit([Write(key=ROUTES + "iris", value=b"{}")], 1)
        await world.order(route("text"))
        await world.until((route(), route("text")), (), frozenset())
        assert "routes/iris" in world.steering.problems()[0]


async def test_replicas_are_shared_anew_when_gateways_come_and_go() -> None:
    world = World()
    world.names.become("me")
    world.registry.publish([server(capacity=4)])
    async with world.running():
        await world.order(route())
        await world.until((route(),), (server(capacity=4),), frozenset())
        world.names.become("me", "other")
        await world.until((route(),), (server(capacity=2),), frozenset())
        world.names.become()  # a registry that has lost its data
        world.registry.publish([server(capacity=6)])
        await world.until((route(),), (server(capacity=3),), frozenset())
        world.names.become("me")
        await world.until((route(),), (server(capacity=6),), frozenset())


async def test_a_store_that_is_away_costs_nothing() -> None:
    class Away(MemoryStore):
        async def scan(self, prefix: str) -> Snapshot:
            raise Unavailable("Consul does not answer")

    world = World(LAST)
    sources = Sources(Away(), world.registry, world.names, world._epoch)
    world.steering = Steering("me", SystemClock(), world.gateway, sources)
    world.names.become("me")
    world.registry.publish([server(number=2)])
    async with world.running():
        await world.until(LAST.routes, (server(number=2),), frozenset())
        assert world.steering.problems() == ("routes: Consul does not answer",)
