"""A simulated gateway before simulated replicas: requests arrive, wait, run and are counted.

Nothing is lost here by itself: what cannot run waits or is held, however long it takes. What comes
while the queue is full is refused.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from serai.clock import Clock
from serai.memory import MemoryStore
from serai.model import Replica, Server
from serai.report import GatewayReading, ServerTraffic, VersionTraffic
from serai.routes import ROUTES, Route
from serai.wire import decode
from tests.sim.cluster import SimEngine


@dataclass
class Demand:
    """What an API is asked for: requests a second at each second, and how long one runs."""

    rate: Callable[[float], float]
    service_s: float
    queue_limit: int = 10_000
    queue: deque[float] = field(default_factory=deque)
    """When each that waits has come."""
    running: list[tuple[float, str]] = field(default_factory=list)
    """When each will have ended, and on which server."""
    arrivals: int = 0
    completions: int = 0
    refused: int = 0
    waits_s: list[float] = field(default_factory=list)
    lost: int = 0

    def burst(self, count: int, now_s: float) -> None:
        """Let many come at once."""
        self.arrivals += count
        self.queue.extend([now_s] * count)


class DemandGateway:
    """Carries out routes some seconds late, sends to the server with the fewest, reports."""

    def __init__(self, rng: Random, clock: Clock, store: MemoryStore, engine: SimEngine) -> None:
        self.silent_rate = 0.0
        self.demands: dict[str, Demand] = {}
        self._rng = rng
        self._clock = clock
        self._store = store
        self._engine = engine
        self._routes: dict[str, Route] = {}
        self._run = 0
        self._counted_before: dict[str, tuple[int, int, int]] = {}
        self._last_s = clock.now()
        self._servers: dict[str, list[Server]] = {}
        engine.gateway = self

    def restart(self) -> None:
        """Count anew, as a gateway does that has begun again: what is there has arrived for it."""
        self._run += 1
        self._counted_before = {
            api: (one.completions + one.refused, one.completions, one.refused)
            for api, one in self.demands.items()
        }

    async def step(self) -> GatewayReading | None:
        """Let time pass up to now, and report (sometimes not)."""
        if self._rng.random() >= self.silent_rate:
            snapshot = await self._store.scan(ROUTES)
            routes = (decode(entry.value, Route) for entry in snapshot.entries)
            self._routes = {route.api: route for route in routes}
        self._servers = {}
        for server in self._engine.servers:
            self._servers.setdefault(server.api, []).append(server)
        now_s = self._clock.now()
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        for api, demand in self.demands.items():
            self._arrive(demand, now_s, elapsed_s)
            self._serve(api, demand, now_s)
        return None if self._rng.random() < self.silent_rate else self._reading()

    def _arrive(self, demand: Demand, now_s: float, elapsed_s: float) -> None:
        expected = demand.rate(now_s) * elapsed_s
        at_s = self._rng.expovariate(1.0)
        while at_s < expected:
            demand.arrivals += 1
            demand.queue.append(now_s)
            at_s += self._rng.expovariate(1.0)

    def _serve(self, api: str, demand: Demand, now_s: float) -> None:
        live = {server.id for server in self._servers.get(api, ())}
        gone = [one for one in demand.running if one[1] not in live and one[0] > now_s]
        demand.lost += len(gone)
        ended = [one for one in demand.running if one[0] <= now_s]
        demand.completions += len(ended) + len(gone)
        demand.running = [one for one in demand.running if one[0] > now_s and one[1] in live]
        free = [server.id for server in self._taking(api) for _ in range(server.capacity)]
        for _, server in demand.running:
            if server in free:
                free.remove(server)
        while demand.queue and free:
            server = free.pop(self._rng.randrange(len(free)))
            demand.waits_s.append(now_s - demand.queue.popleft())
            demand.running.append((now_s + demand.service_s, server))
        while len(demand.queue) > demand.queue_limit:
            demand.queue.pop()
            demand.refused += 1

    def _taking(self, api: str) -> list[Server]:
        route = self._routes.get(api)
        if route is None:
            return []
        serving = {share.version for share in route.versions if share.share}
        draining = set(route.draining)
        return [
            one
            for one in self._servers.get(api, ())
            if one.version in serving and one.replica not in draining
        ]

    def _reading(self) -> GatewayReading:
        in_flight: dict[str, int] = {}
        for demand in self.demands.values():
            for _, server in demand.running:
                in_flight[server] = in_flight.get(server, 0) + 1
        return GatewayReading(
            run=f"run-{self._run}",
            ready=True,
            read_at_s=self._clock.now(),
            revisions={api: route.revision for api, route in self._routes.items()},
            servers=tuple(
                ServerTraffic(server=name, state="ready", in_flight=count)
                for name, count in in_flight.items()
            ),
            versions=tuple(
                self._told(api, demand)
                for api, demand in self.demands.items()
                if api in self._routes
            ),
        )

    def _told(self, api: str, demand: Demand) -> VersionTraffic:
        shares = self._routes[api].versions
        arrivals, completions, refused = self._counted_before.get(api, (0, 0, 0))
        waiting, taking = len(demand.queue), self._taking(api)
        return VersionTraffic(
            api=api,
            version=next((share.version for share in shares if share.share), ""),
            in_flight=len(demand.running),
            queued=waiting if taking else 0,
            held=0 if taking else waiting,
            arrivals=demand.arrivals - arrivals,
            completions=demand.completions - completions,
            refused=demand.refused - refused,
        )

    def check_stop(self, replica: Replica, violations: list[str]) -> None:
        """Record a stop that would lose requests."""
        route = self._routes.get(replica.api)
        demand = self.demands.get(replica.api)
        if route is None or demand is None or not replica.servers:
            return
        servers = {server.id for server in replica.servers}
        if replica.id not in route.draining:
            violations.append(f"{replica.id} stopped while it takes new requests")
        elif any(server in servers for _, server in demand.running):
            violations.append(f"{replica.id} stopped with requests in flight")
