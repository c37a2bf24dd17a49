"""`make bench-metric`: how late the scheduler's loop is while it asks for 500 metrics.

The real loop that asks, over real sockets, beside a loop that ticks every 10 ms: with all queries
answered at once, with one that hangs, and with as many that hang as may be open.
"""

import asyncio
import subprocess
import sys
import time

import uvloop

from bench.metric.server import HANGS
from bench.report import Figure, at_most, finish
from serai.clock import SystemClock
from serai.supervisor import every
from serai_scheduler.autoscale.metric.prometheus import AT_ONCE, Metrics

APIS = 500
TICK_S = 0.01
SETTLED_S = 16.0
MEASURED_S = 30.0
HANGING = {"answered": 0, "one_hangs": 1, "all_places_hang": AT_ONCE}


async def measured(address: str, hanging: int) -> dict[str, float]:
    """Return the lateness, the share of a core, and how old the oldest answer came to be."""
    late_s: list[float] = []
    clock = SystemClock()
    metrics = Metrics(clock, address)
    names = [f"{HANGS}{number}" for number in range(hanging)]
    good = [f"api{number}" for number in range(APIS - hanging)]
    asking = asyncio.ensure_future(metrics.run())

    async def tick() -> None:
        metrics.follow({name: name for name in (*names, *good)})

    ticking = asyncio.ensure_future(
        every(clock, TICK_S, tick, lambda seconds, missed: late_s.append(seconds))
    )
    await clock.sleep(SETTLED_S)
    late_s.clear()
    began_s, unknown = time.process_time(), 0
    for _ in range(int(MEASURED_S)):
        await clock.sleep(1.0)
        unknown = max(unknown, sum(metrics.reading(name).value is None for name in good))
    share = (time.process_time() - began_s) / MEASURED_S
    for task in (asking, ticking):
        task.cancel()
    await asyncio.gather(asking, ticking, return_exceptions=True)
    late_s.sort()
    return {
        "late_p99_ms": 1000 * late_s[int(0.99 * len(late_s))],
        "late_most_ms": 1000 * late_s[-1],
        "share_of_a_core": share,
        "unknown_of_others": float(unknown),
    }


def main() -> None:
    command = [sys.executable, "-m", "bench.metric.server"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    figures: dict[str, Figure] = {"apis": APIS}
    try:
        address = server.stdout.readline().strip()
        for name, hanging in HANGING.items():
            found = uvloop.run(measured(address, hanging))
            figures |= {f"{figure}_{name}": value for figure, value in found.items()}
    finally:
        server.terminate()
        server.wait()
    limits = {f"late_p99_ms_{name}": at_most(100) for name in HANGING}
    limits |= {f"unknown_of_others_{name}": at_most(0) for name in ("answered", "one_hangs")}
    finish("metric", figures, limits)


if __name__ == "__main__":
    main()
