"""A simulated cluster of any size around the real decisions, records and reconciler."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from random import Random

from serai import wire
from serai.clock import Clock, SimClock
from serai.memory import MemoryStore
from serai.model import Replica, ReplicaState, Version
from serai.operator import DeployItem, DeployRequest
from serai.report import (
    REPORT_VERSION,
    Gpus,
    NodeReport,
    ReplicaUsage,
)
from serai.report_accept import accept as accept_report
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec, Pod
from serai_scheduler.deploy import Surroundings, accept
from serai_scheduler.nodes import NodeBook
from serai_scheduler.orders import Orders
from serai_scheduler.planning import Observation
from serai_scheduler.reconcile import Reconciler
from serai_scheduler.state import State
from serai_scheduler.term_clock import TermClock
from serai_scheduler.traffic import TrafficBook
from serai_scheduler.views import status_of
from serai_scheduler.world import Leaving
from tests.sim.cluster import SimEngine, SimGateway

APIS_PER_DEPLOY = 40
TICK_S = 0.5
GATEWAYS = 3
ENDED_KEPT = 10
"""As the engines do, per API."""


class BoundedEngine(SimEngine):
    """The simulation's engine, which keeps of the ended replicas only the last ones."""

    def __init__(self, rng: Random, clock: Clock) -> None:
        super().__init__(rng, clock)
        self.granted: defaultdict[str, dict[str, float]] = defaultdict(dict)
        """By API and version how long answers may take: what the reconciler has told."""

    async def grant(self, version: Version, drain_s: float, epoch: int) -> None:
        await super().grant(version, drain_s, epoch)
        self.granted[version.api][version.name] = drain_s

    def lose(self, share: float) -> None:
        """Let this share of the ready replicas be lost now, chosen by chance.

        Those that fail by themselves would soon be started again after a pause only.
        """
        ready = [one.id for one in self.replicas if one.state is ReplicaState.READY]
        for replica in self._rng.sample(ready, round(share * len(ready))):
            ended_at_s = self.clock.wall()
            self._change(replica, state=ReplicaState.LOST, servers=(), ended_at_s=ended_at_s)

    async def observe(self) -> Sequence[Replica]:
        kept: list[Replica] = []
        ended: defaultdict[str, list[Replica]] = defaultdict(list)
        for replica in await super().observe():
            (kept if replica.alive else ended[replica.api]).append(replica)
        for some in ended.values():
            kept += sorted(some, key=lambda replica: replica.ended_at_s or 0.0)[-ENDED_KEPT:]
        return kept


class ControlledCluster:
    """Everything real but the nodes, and the gateways, which carry out orders at once."""

    def __init__(self, rng: Random, nodes: int) -> None:
        self._clock = SimClock()
        store = MemoryStore()
        self._engine = BoundedEngine(rng, self._clock)
        self._gateway = SimGateway(rng, store, self._engine)
        self._nodes = [f"node-{number}" for number in range(nodes)]
        self._traffic = TrafficBook()
        self._book = NodeBook()
        self._state = State(store)
        term = TermClock(self._clock)
        self.reconciler = Reconciler(term, self._state, self._engine, self._traffic, 0)
        self._orders = Orders(term, self._state, lambda: None, epoch=0)
        self._apis: list[str] = []
        self._bundle = ""
        self._sequence = 0

    async def deploy(self, apis: int, replicas: int, bundle: str) -> None:
        """Deploy every API with this bundle and as many replicas."""
        self._apis = [f"api-{number}" for number in range(apis)]
        self._bundle = bundle
        bounds = Autoscaling(min_replicas=0, init_replicas=replicas, max_replicas=1000)
        for first in range(0, apis, APIS_PER_DEPLOY):
            items = tuple(
                DeployItem(
                    spec=ApiSpec(
                        name=name,
                        endpoint=f"/{name}",
                        pod=Pod(command=("serve",)),
                        autoscaling=bounds,
                    ),
                    bundle=bundle,
                )
                for name in self._apis[first : first + APIS_PER_DEPLOY]
            )
            around = Surroundings(self._clock.wall(), "", "3.11")
            await self._orders.deploy(DeployRequest(apis=items), around, accept)

    async def scale(self, replicas: int) -> None:
        """Let every API have as many replicas."""
        for name in self._apis:
            await self._orders.scale(name, replicas)

    async def step(self, lost: float = 0.0) -> None:
        """Let time pass, this share of the ready replicas be lost, and the gateways report."""
        await self._clock.sleep(TICK_S)
        self._engine.step()
        self._engine.lose(lost)
        reading = await self._gateway.step()
        assert reading is not None, "no gateway of this cluster is ever silent"
        for number in range(GATEWAYS):
            self._traffic.add(f"gateway-{number}", reading, self._clock.now())

    async def observation(self) -> Observation:
        """Return what the next tick will plan from."""
        apis = await self._state.read()
        return Observation(
            now_s=self._clock.wall(),
            calendar_s=self._clock.wall(),
            epoch=0,
            apis=apis,
            routes=self._state.routes,
            known=frozenset(apis),
            replicas=await self._engine.observe(),
            heard=self._traffic.heard(self._clock.now()),
            refusals={},
            leaving=Leaving(),
            granted={api: dict(mine) for api, mine in self._engine.granted.items()},
        )

    async def settled(self, per_api: int) -> bool:
        """Say whether every API serves what was deployed last, with as many ready replicas."""
        alive = [replica for replica in self._engine.replicas if replica.alive]
        ready = Counter(r.api for r in alive if r.state is ReplicaState.READY)
        serve = [
            stored.record.candidate is None
            and stored.versions[stored.record.stable].content.bundle == self._bundle
            for stored in (await self._state.read()).values()
            if stored.record.stable
        ]
        wanted = dict.fromkeys(self._apis, per_api)
        return ready == wanted and len(alive) == ready.total() and serve == [True] * len(wanted)

    async def list_ms(self, now_s: Callable[[], float]) -> float:
        """Return how long it takes to say how all APIs are, as `serai get` asks."""
        apis = await self._state.read()
        by_api = self.reconciler.by_api
        began_s = now_s()
        for name, stored in apis.items():
            status_of(stored, by_api[name], self._traffic, self._clock.now(), "http://gateway")
        return 1000 * (now_s() - began_s)

    def summary(self) -> str:
        """Return how many replicas are in which state."""
        return str(Counter(str(replica.state) for replica in self._engine.replicas))

    def reports_ms(self, now_s: Callable[[], float]) -> float:
        """Return how long it takes to take in one second's reports of all nodes."""
        reports = [wire.encode(self._report(node)) for node in self._nodes]
        began_s = now_s()
        for raw in reports:
            report = accept_report(raw, lambda node: self._book.newest(node, self._clock.now()))
            self._book.add(report, self._clock.now())
        return 1000 * (now_s() - began_s)

    def _report(self, node: str) -> NodeReport:
        self._sequence += 1
        mine = self._engine.replicas[self._sequence % len(self._nodes) :: len(self._nodes)]
        return NodeReport(
            report_version=REPORT_VERSION,
            node=node,
            sequence=self._sequence,
            started_at_s=self._clock.wall(),
            sent_at_s=self._clock.wall(),
            serai_version="0.1.0",
            roles=("replicas",),
            cpu_count=64,
            cpu_percent=50.0,
            load=(1.0, 1.0, 1.0),
            memory_total_bytes=2**38,
            memory_available_bytes=2**37,
            disk_total_bytes=2**40,
            disk_free_bytes=2**39,
            gpus=Gpus(),
            replicas=tuple(
                ReplicaUsage(replica=one.id, cpu_cores=1.0, memory_bytes=2**30, processes=2)
                for one in mine
                if one.alive
            ),
        )
