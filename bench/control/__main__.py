"""`make bench-control`: what a tick of the scheduler costs, from 100 replicas to 10,000.

The real decisions, records and reconciler run over a simulated engine and gateway, each size in a
process of its own. The worst tick counts: those of the deploy, of a scale to half, of an update,
those in which nothing changes (steady), those in which some replicas are lost (busy). A plan is
timed by the clock, which has the limit, and by the processor's time, whose growth has one: what
else runs on the machine is not the plan's. That growth is of the mean over all ticks: whether a
full garbage collection falls into a plan or beside it makes the worst one. A loop stall is how long
a tick keeps everything else on the event loop from running.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from random import Random
from statistics import mean, median
from typing import Self

import psutil

from bench.control.cluster import ControlledCluster
from bench.report import Figure, at_most, finish
from serai_scheduler.planning import plan_all

LIMIT_S = 900.0


@dataclass(frozen=True)
class Size:
    """How large a cluster is; replicas are spread evenly over the APIs."""

    nodes: int
    apis: int
    replicas: int


SIZES = {
    "100": Size(10, 5, 100),
    "1000": Size(100, 50, 1_000),
    "10000": Size(1_000, 500, 10_000),
    "10000_in_10_apis": Size(1_000, 10, 10_000),
}
"""By the end of the names of their figures. The last has a thousand replicas in each API."""
SMALL, LARGE = "1000", "10000"
"""Between these two it must not grow faster than the replicas."""
WORST_PLAN_MS = 200.0
LINEAR = 1.25
"""Ten times the replicas may take ten times as long, and the noise of the machine."""
GROWS = (
    "worst_plan_ms",
    "worst_plan_cpu_ms",
    "mean_plan_cpu_ms",
    "steady_plan_cpu_ms",
    "busy_plan_cpu_ms",
    "steady_tick_ms",
)
MOST_TICKS = 400
STEADY_TICKS = 20
BUSY_TICKS = 20
BUSY_SHARE = 0.02
"""The share of the ready replicas lost in each busy tick: at 20 an API, one in every third API."""
BEAT_S = 0.001


class Heartbeat:
    """Wants to run every millisecond, and tells the longest time that it could not."""

    def __init__(self) -> None:
        self.longest_stall_s = 0.0
        self._last_s = 0.0
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._last_s = time.perf_counter()
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._beating is not None
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        self._look()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self._look()

    def _look(self) -> None:
        now_s = time.perf_counter()
        self.longest_stall_s = max(self.longest_stall_s, now_s - self._last_s - BEAT_S)
        self._last_s = now_s


class Meter:
    """Times the plans, the ticks and their stalls of one phase, in milliseconds."""

    def __init__(self) -> None:
        self.plan_ms: list[float] = []
        self.plan_cpu_ms: list[float] = []
        self.planned_apis: list[int] = []
        self.tick_ms: list[float] = []
        self.stall_ms: list[float] = []

    async def tick(self, cluster: ControlledCluster, lost: float = 0.0) -> None:
        await cluster.step(lost)
        seen = await cluster.observation()
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        plans = plan_all(seen)
        planned_s, planned_cpu_s = time.perf_counter(), time.process_time()
        self.planned_apis.append(len(plans.apis))
        del plans
        async with Heartbeat() as heart:
            await cluster.reconciler.tick()
            ended_s = time.perf_counter()
        self.stall_ms.append(1000 * heart.longest_stall_s)
        self.plan_ms.append(1000 * (planned_s - began_s))
        self.plan_cpu_ms.append(1000 * (planned_cpu_s - began_cpu_s))
        self.tick_ms.append(1000 * (ended_s - planned_s))


async def settle(cluster: ControlledCluster, per_api: int) -> Meter:
    """Tick until every API has as many ready replicas and nothing else."""
    meter = Meter()
    for _ in range(MOST_TICKS):
        await meter.tick(cluster)
        if await cluster.settled(per_api):
            return meter
    raise SystemExit(f"not settled at {per_api} replicas of each API: {cluster.summary()}")


async def measure(size: Size) -> dict[str, float]:
    """Return the figures of one size."""
    cluster = ControlledCluster(Random(size.replicas), size.nodes)
    per_api = size.replicas // size.apis
    phases = {}
    await cluster.deploy(size.apis, per_api, "a")
    phases["deploy"] = await settle(cluster, per_api)
    steady, busy = Meter(), Meter()
    for _ in range(STEADY_TICKS):
        await steady.tick(cluster)
    if any(steady.planned_apis):
        raise SystemExit(f"not steady: a tick changed {max(steady.planned_apis)} APIs")
    reports_ms = cluster.reports_ms(time.perf_counter)
    list_ms = await cluster.list_ms(time.perf_counter)
    for _ in range(BUSY_TICKS):
        await busy.tick(cluster, BUSY_SHARE)
    await cluster.scale(per_api // 2)
    phases["halve"] = await settle(cluster, per_api // 2)
    await cluster.deploy(size.apis, per_api // 2, "b")
    phases["update"] = await settle(cluster, per_api // 2)
    meters = (*phases.values(), steady, busy)
    plan_cpu_ms = [one for meter in meters for one in meter.plan_cpu_ms]
    figures = {f"{name}_plan_ms": max(meter.plan_ms) for name, meter in phases.items()}
    figures |= {f"{name}_tick_ms": max(meter.tick_ms) for name, meter in phases.items()}
    return {
        **figures,
        "steady_plan_ms": median(steady.plan_ms),
        "steady_plan_cpu_ms": median(steady.plan_cpu_ms),
        "steady_tick_ms": median(steady.tick_ms),
        "steady_loop_stall_ms": median(steady.stall_ms),
        "busy_plan_ms": median(busy.plan_ms),
        "busy_plan_cpu_ms": median(busy.plan_cpu_ms),
        "busy_tick_ms": median(busy.tick_ms),
        "busy_changed_apis": median(busy.planned_apis),
        "worst_loop_stall_ms": max(max(meter.stall_ms) for meter in meters),
        "worst_plan_ms": max(max(meter.plan_ms) for meter in meters),
        "worst_plan_cpu_ms": max(plan_cpu_ms),
        "mean_plan_cpu_ms": mean(plan_cpu_ms),
        "reports_ms_per_s": reports_ms,
        "list_ms": list_ms,
        "memory_mib": psutil.Process().memory_info().rss / 2**20,
    }


def apart(size: Size) -> dict[str, float]:
    """Measure one size in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.control", *map(str, (size.nodes, size.apis, size.replicas))],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    if len(sys.argv) == 4:
        print(json.dumps(asyncio.run(measure(Size(*map(int, sys.argv[1:]))))))
        return
    figures: dict[str, Figure] = {}
    found = {name: apart(size) for name, size in SIZES.items()}
    for name, one in found.items():
        print(f"{name} replicas: " + "  ".join(f"{k} {v:.3g}" for k, v in one.items()))
        figures |= {f"{key}_{name}": value for key, value in one.items()}
    growth = SIZES[LARGE].replicas / SIZES[SMALL].replicas
    for key in GROWS:
        figures[f"{key}_growth_over_linear"] = found[LARGE][key] / found[SMALL][key] / growth
    limits = {
        f"worst_plan_ms_{LARGE}": at_most(WORST_PLAN_MS),
        "worst_plan_ms_10000_in_10_apis": at_most(WORST_PLAN_MS),
        "mean_plan_cpu_ms_growth_over_linear": at_most(LINEAR),
        "steady_tick_ms_growth_over_linear": at_most(LINEAR),
    }
    finish("control", figures, limits)


if __name__ == "__main__":
    main()
