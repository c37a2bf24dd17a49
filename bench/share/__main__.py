"""`make bench-share`: how long it takes to share 8,000 places among 500 APIs that want more."""

import random
import time
from statistics import median

from bench.report import at_most, finish
from serai_scheduler.autoscale.share import Claim, share

APIS = 500
POOLS = {f"pool-{number}": 1000 for number in range(8)}
RUNS = 15


def claims(seed: int) -> list[Claim]:
    """Return APIs that want about 10,000 places in all, on two pools each."""
    chance = random.Random(seed)
    made = []
    for number in range(APIS):
        wanted = chance.randint(5, 35)
        pools = tuple(chance.sample(sorted(POOLS), 2))
        made.append(
            Claim(
                name=f"api-{number:03}",
                wanted=wanted,
                least=1,
                most=50,
                pools=pools,
                running={pool: chance.randint(0, 8) for pool in pools},
                priority=chance.choice((1.0, 2.0, 4.0)),
                late_per_s=chance.uniform(1.0, 100.0),
                load=4.0 * wanted,
                slots=4.0,
            )
        )
    return made


def main() -> None:
    times_ms, cpu_ms = [], []
    for seed in range(RUNS):
        wants = claims(seed)
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        share(wants, POOLS)
        times_ms.append(1000 * (time.perf_counter() - began_s))
        cpu_ms.append(1000 * (time.process_time() - cpu_began_s))
    figures = {
        "share_ms": median(times_ms),
        "slowest_ms": max(times_ms),
        "share_cpu_ms": median(cpu_ms),
    }
    finish("share", figures, {"share_ms": at_most(50)})


if __name__ == "__main__":
    main()
