"""A simulated node: an engine and a gateway that obey their ports and fail as real ones do.

One seed replays one run. The engine keeps the rules of its port and counts what must never
happen; the gateway carries out routes with a delay and reports what is in flight on it.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Protocol

import msgspec

from serai.clock import Clock
from serai.engine import USUAL_DRAIN_S, Capacity, EngineNode, LogLine, LogQuery
from serai.errors import Refused, Unavailable
from serai.memory import MemoryStore
from serai.model import Exit, Replica, ReplicaState, Server, Version, server_id
from serai.report import GatewayReading, ServerTraffic, VersionTraffic
from serai.routes import ROUTES, Route
from serai.wire import decode

NODES = ("node-1", "node-2", "node-3")
BROKEN = "broken"
"""The bundle of a version whose replicas always fail."""
FLAPS = "flaps"
"""That of one whose replicas get ready, and end `UP_S` later; they fail at the third time."""
UP_S = 4.0
BUSY_S = 4.0
"""How long the check of one that serves fails at most, which ends no request on it."""
RESTARTS = 2


class Gateway(Protocol):
    """What the engine asks of the gateway before its replicas."""

    def check_stop(self, replica: Replica, violations: list[str]) -> None:
        """Record a stop that would lose requests."""


def job_of(replica: str) -> str:
    """Return what a replica's version runs as: `API.VERSION`."""
    return replica.rpartition(".")[0]


class SimEngine:
    """Replicas that need a while to start, crash now and then, and take their time to end."""

    def __init__(self, rng: Random, clock: Clock) -> None:
        self.fault_rate = 0.0
        self.busy_rate = 0.0
        """How often the check of one that serves begins to fail, each time that it is looked at."""
        self.longest_start_s = 6.0
        self.violations: list[str] = []
        self.starts: Counter[str] = Counter()
        """How often each replica was started."""
        self.changes: Counter[str] = Counter()
        """How often the replicas that shall run of each version were changed."""
        self.knows_epochs = True
        """Nomad does not: there the lease and the index of a version's job fence an order."""
        self.capacity: Capacity | None = None
        """What each node has; None is as much as anybody wants, of which nothing is told."""
        self._epoch = 0
        self._rng = rng
        self.clock = clock
        self._replicas: dict[str, Replica] = {}
        self._due_s: dict[str, float] = {}
        self._contents: dict[str, Version] = {}
        self._closed: set[str] = set()
        self.drains_s: dict[tuple[str, str], float] = {}
        """By API and version, as it was last told."""
        self.gateway: Gateway | None = None

    def _maybe_away(self) -> None:
        if self._rng.random() < self.fault_rate:
            raise Unavailable("simulated")

    def _heed_epoch(self, epoch: int) -> None:
        if self.knows_epochs and epoch < self._epoch:
            raise Refused(f"epoch {epoch} is over: {self._epoch} has been seen", "fenced")
        self._epoch = epoch

    async def observe(self) -> Sequence[Replica]:
        self._maybe_away()
        return tuple(self._replicas.values())

    async def start(
        self,
        replicas: Sequence[str],
        version: Version,
        epoch: int,
        drain_s: float = USUAL_DRAIN_S,
    ) -> None:
        self._maybe_away()
        self._heed_epoch(epoch)
        self.drains_s[version.api, version.name] = drain_s
        for replica in replicas:
            self._start(replica, version)
        self._maybe_away()  # the order was carried out, its answer is lost

    def _start(self, replica: str, version: Version) -> None:
        if replica in self._replicas:
            return
        self.starts[replica] += 1
        self.changes[job_of(replica)] += 1
        self._contents[replica] = version
        self._replicas[replica] = Replica(
            id=replica,
            api=version.api,
            version=version.name,
            node="",
            state=ReplicaState.PENDING,
            created_at_s=self.clock.wall(),
        )
        self._place(replica)

    def _place(self, replica: str) -> None:
        """Begin on any node that has room, or wait for one."""
        nodes = [one for one in NODES if one not in self._closed and self._has_room(one, replica)]
        if nodes:
            node = self._rng.choice(nodes)
            self._change(replica, node=node, state=ReplicaState.STARTING, reason="")
            self._due_s[replica] = self.clock.now() + self._rng.uniform(0.5, self.longest_start_s)
        else:
            self._change(replica, reason="waits for room")

    def _has_room(self, node: str, replica: str) -> bool:
        """Say whether a node has the GPUs and the processor that a replica needs."""
        if (has := self.capacity) is None:
            return True
        there = [one.id for one in self._replicas.values() if one.alive and one.node == node]
        needs = [self._contents[one].content.compute for one in (*there, replica)]
        gpus, cores = sum(one.gpu for one in needs), sum(one.cpu.millicores for one in needs)
        return gpus <= (has.gpus or 0) and cores <= (has.cpu_millicores or cores)

    async def grant(self, version: Version, drain_s: float, epoch: int) -> None:
        self._maybe_away()
        self._heed_epoch(epoch)
        self.drains_s[version.api, version.name] = drain_s
        self._maybe_away()

    async def nodes(self) -> Sequence[EngineNode]:
        return [
            EngineNode(
                name=name,
                takes=name not in self._closed,
                closed=name in self._closed,
                capacity=self.capacity,
            )
            for name in NODES
        ]

    async def take(self, node: str, takes: bool, epoch: int) -> None:
        self._maybe_away()
        self._heed_epoch(epoch)
        (self._closed.discard if takes else self._closed.add)(node)
        self._maybe_away()

    async def stop(self, replicas: Sequence[str], grace_s: float, epoch: int) -> None:
        self._maybe_away()
        self._heed_epoch(epoch)
        for replica in replicas:
            self._stop(replica)
        self._maybe_away()

    def _stop(self, replica: str) -> None:
        found = self._replicas.get(replica)
        if found is None or not found.alive or found.state is ReplicaState.DRAINING:
            return
        assert self.gateway is not None
        self.gateway.check_stop(found, self.violations)
        self.changes[job_of(replica)] += 1
        self._change(replica, state=ReplicaState.DRAINING, servers=())
        self._due_s[replica] = self.clock.now() + self._rng.uniform(0.1, 3.0)

    async def forget(self, api: str, epoch: int) -> None:
        self._heed_epoch(epoch)
        self._replicas = {i: r for i, r in self._replicas.items() if r.api != api or r.alive}

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        lines: tuple[LogLine, ...] = ()
        for line in lines:
            yield line

    def _change(self, replica: str, **fields: object) -> None:
        self._replicas[replica] = msgspec.structs.replace(self._replicas[replica], **fields)

    def step(self) -> None:
        """Let time pass: what is due happens, and now and then a replica dies."""
        for replica in list(self._replicas.values()):
            if replica.alive and self.clock.now() >= self._due_s.get(replica.id, 0.0):
                self._advance(replica)

    def _advance(self, replica: Replica) -> None:
        match replica.state:
            case ReplicaState.PENDING:
                self._place(replica.id)
            case ReplicaState.STARTING if self._contents[replica.id].content.bundle == BROKEN:
                self._fail(replica.id, "broken by design")
            case ReplicaState.STARTING:
                at_s, servers = self.clock.wall(), self._servers(replica)
                self._change(replica.id, state=ReplicaState.READY, servers=servers, ready_at_s=at_s)
                if self._contents[replica.id].content.bundle == FLAPS:
                    self._due_s[replica.id] = self.clock.now() + UP_S
            case ReplicaState.DRAINING:
                self._change(replica.id, state=ReplicaState.STOPPED, ended_at_s=self.clock.wall())
            case ReplicaState.READY if self._contents[replica.id].content.bundle == FLAPS:
                self._end_again(replica)
            case ReplicaState.READY if self._rng.random() < self.fault_rate / 50:
                self._fail(replica.id, "killed by SIGKILL")
            case ReplicaState.READY if self.busy_rate and self._rng.random() < self.busy_rate:
                self._change(replica.id, state=ReplicaState.LOADING, servers=())
                self._due_s[replica.id] = self.clock.now() + self._rng.uniform(0.5, BUSY_S)
            case ReplicaState.LOADING:
                servers = self._servers(replica)
                self._change(replica.id, state=ReplicaState.READY, servers=servers)

    def _end_again(self, replica: Replica) -> None:
        if replica.restarts >= RESTARTS:
            self._fail(replica.id, "it ended by itself")
            return
        again = {"state": ReplicaState.STARTING, "servers": (), "restarts": replica.restarts + 1}
        self._change(replica.id, ready_at_s=None, **again)
        self._due_s[replica.id] = self.clock.now() + 0.5

    def fail(self, replica: str, ended_at_s: float) -> None:
        """Let one die now; its node tells this time."""
        self._fail(replica, "killed by SIGKILL")
        self._change(replica, ended_at_s=ended_at_s)

    def _fail(self, replica: str, why: str) -> None:
        self._change(
            replica,
            state=ReplicaState.FAILED,
            reason=why,
            exit=Exit(exit_code=1),
            servers=(),
            ended_at_s=self.clock.wall(),
        )

    def _servers(self, replica: Replica) -> tuple[Server, ...]:
        return (
            Server(
                id=server_id(replica.id, 0),
                replica=replica.id,
                api=replica.api,
                version=replica.version,
                host="127.0.0.1",
                port=1,
                capacity=4,
            ),
        )

    @property
    def servers(self) -> list[Server]:
        return [s for r in self._replicas.values() if r.alive for s in r.servers]

    @property
    def replicas(self) -> list[Replica]:
        return list(self._replicas.values())


class SimGateway:
    """Carries out routes some seconds late; requests on a draining server end by and by."""

    def __init__(self, rng: Random, store: MemoryStore, engine: SimEngine) -> None:
        self.silent_rate = 0.0
        self.ending_rate = 1.0
        """How often requests end at all: fewer are long ones, which a drain has to wait for."""
        self._rng = rng
        self._store = store
        self._engine = engine
        self._routes: dict[str, Route] = {}
        self._in_flight: dict[str, int] = {}
        self._queued: dict[tuple[str, str], int] = {}
        self._drains_since_s: dict[str, float] = {}
        """By replica: when it was first seen to get no new requests."""
        engine.gateway = self

    async def step(self) -> GatewayReading | None:
        """Carry out what is wanted (sometimes later), serve a little, and report (sometimes)."""
        if self._rng.random() > self.silent_rate:
            snapshot = await self._store.scan(ROUTES)
            self._routes = {
                (route := decode(entry.value, Route)).api: route for entry in snapshot.entries
            }
        self._serve()
        return None if self._rng.random() < self.silent_rate else self._reading()

    def serving(self, api: str) -> str:
        """Return the version that takes the traffic of an API."""
        route = self._routes.get(api)
        shares = route.versions if route else ()
        return next((share.version for share in shares if share.share), "")

    def _serve(self) -> None:
        draining = {d for route in self._routes.values() for d in route.draining}
        live = {server.id: server for server in self._engine.servers}
        serving = (ReplicaState.READY, ReplicaState.LOADING)
        running = {server_id(r.id, 0): r for r in self._engine.replicas if r.state in serving}
        now_s, known = self._engine.clock.now(), self._drains_since_s
        self._drains_since_s = {one: known.get(one, now_s) for one in draining}
        for name, replica in running.items():
            ends = self._rng.randint(0, 3) if self._rng.random() < self.ending_rate else 0
            self._in_flight[name] = max(0, self._in_flight.get(name, 0) - ends)
            since_s = self._drains_since_s.get(replica.id, now_s)
            if since_s < now_s and now_s - since_s >= self._routes[replica.api].total_s:
                self._in_flight[name] = 0  # no request takes longer
        for name, server in live.items():
            takes = self.serving(server.api) == server.version and server.replica not in draining
            queue = self._queued.get((server.api, server.version), 0)
            if takes or (queue and server.replica not in draining):
                self._in_flight[name] = self._rng.randint(0, 4)
                self._queued[server.api, server.version] = max(0, queue - 2)
            if takes and self._rng.random() < 0.2:
                self._queued[server.api, server.version] = self._rng.randint(1, 6)
        self._in_flight = {name: n for name, n in self._in_flight.items() if name in running}

    def _reading(self) -> GatewayReading:
        return GatewayReading(
            run="run",
            ready=True,
            read_at_s=self._engine.clock.now(),
            revisions={api: route.revision for api, route in self._routes.items()},
            servers=tuple(
                ServerTraffic(server=name, state="ready", in_flight=count)
                for name, count in self._in_flight.items()
            ),
            versions=tuple(
                VersionTraffic(api=api, version=version, queued=count)
                for (api, version), count in self._queued.items()
            ),
        )

    def check_stop(self, replica: Replica, violations: list[str]) -> None:
        """Record a stop that would lose requests."""
        route = self._routes.get(replica.api)
        if route is None:
            return
        if replica.servers and replica.id not in route.draining:
            violations.append(f"{replica.id} stopped while it takes new requests")
        elif self._in_flight.get(server_id(replica.id, 0), 0):
            violations.append(f"{replica.id} stopped with requests in flight")
