"""What the whole loop costs: everything from the gateways' counters to the counts and the ledger.

The cluster is simulated, but for the loop itself; only the loop is measured, on CPU time.
"""

import asyncio
import time
from collections.abc import Callable
from random import Random

from bench.report import Figure
from serai.operator import DeployItem, DeployRequest
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec, Concurrency, Pod
from serai_scheduler.deploy import accept
from tests.sim.demand import Demand
from tests.sim.test_autoscaling import SLOTS, Cluster
from tests.support.scheduling import around

APIS = 500
APIS_PER_DEPLOY = 20
SETTLED_S = 60
MEASURED_S = 120


def figures() -> dict[str, Figure]:
    """Return the mean and the longest tick, and the share of a core for one tick a second."""
    took_s = asyncio.run(_ticks())
    mean_s = sum(took_s) / len(took_s)
    return {
        "loop_tick_ms_500_apis": 1000 * mean_s,
        "loop_longest_tick_ms_500_apis": 1000 * max(took_s),
        "loop_share_of_a_core_500_apis": mean_s,
        "loop_ms_per_api": 1000 * mean_s / APIS,
    }


async def _ticks() -> list[float]:
    rng, cluster = Random(7), Cluster(7)
    await _deploy(cluster, rng)
    await _pass(cluster, SETTLED_S)
    return await _pass(cluster, MEASURED_S)


async def _deploy(cluster: Cluster, rng: Random) -> None:
    names = [f"api-{number}" for number in range(APIS)]
    for name in names:
        cluster.gateway.demands[name] = Demand(constant(rng.uniform(0.0, 4.0)), service_s=1.0)
    for first in range(0, APIS, APIS_PER_DEPLOY):
        items = tuple(DeployItem(spec=_spec(one), bundle="a") for one in names[first:][:20])
        request = DeployRequest(apis=items)
        await cluster.orders.deploy(request, around(cluster.clock.wall()), accept)


def constant(rate: float) -> Callable[[float], float]:
    return lambda now_s: rate


def _spec(name: str) -> ApiSpec:
    return ApiSpec(
        name=name,
        endpoint=f"/{name}",
        pod=Pod(command=("serve",)),
        concurrency=Concurrency(per_replica=SLOTS),
        autoscaling=Autoscaling(min_replicas=1, max_replicas=20),
    )


async def _pass(cluster: Cluster, seconds: int) -> list[float]:
    took_s = []
    for _ in range(seconds):
        await cluster.clock.sleep(1.0)
        cluster.engine.step()
        reading = await cluster.gateway.step()
        assert reading is not None, "this gateway is never silent"
        cluster.traffic.add("node", reading, cluster.clock.now())
        began_s = time.process_time()
        await cluster.autoscaler.tick()
        await cluster.autoscaler.keep_learned()
        took_s.append(time.process_time() - began_s)
        await cluster.reconciler.tick()
    return took_s
