"""`make bench-share`: how long it takes to share 8,000 places among 500 APIs that want more.

Once from given pools, once from 1,000 nodes of eight classes with eight GPUs each.
"""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from msgspec.structs import replace

from bench.report import Figure, at_most, finish
from serai.engine import Capacity, EngineNode
from serai.spec.types import Compute, Nodes
from serai_scheduler.autoscale.places import Contender, shared
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


def nodes() -> list[EngineNode]:
    """Return the same places as nodes tell them."""
    return [
        EngineNode(
            name=f"node-{number}",
            takes=True,
            pool="default",
            node_class=f"pool-{number % len(POOLS)}",
            capacity=Capacity(gpus=8, memory_mib=2**20, cpu_millicores=128_000),
        )
        for number in range(1000)
    ]


def contenders(seed: int) -> list[Contender]:
    """Return the same APIs, each bound to a class or to none, with replicas on some nodes."""
    chance, made = random.Random(seed), []
    for claim in claims(seed):
        node_class = chance.choice([*POOLS, None])
        first = int(node_class[-1]) if node_class else 0
        numbers = range(first, 1000, len(POOLS))
        runs = sum(claim.running.values())
        running = {f"node-{number}": 1 for number in chance.sample(numbers, runs)}
        on = Nodes(class_=node_class) if node_class else None
        bare = replace(claim, pools=(), running={})
        made.append(Contender(bare, Compute(gpu=1), on, running))
    return made


def timed(name: str, runs: Sequence[Callable[[], object]]) -> dict[str, Figure]:
    """Return the median of the runs on both clocks, and the slowest, in milliseconds."""
    times_ms, cpu_ms = [], []
    for run in runs:
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        run()
        times_ms.append(1000 * (time.perf_counter() - began_s))
        cpu_ms.append(1000 * (time.process_time() - cpu_began_s))
    return {
        f"{name}_ms": median(times_ms),
        f"{name}_slowest_ms": max(times_ms),
        f"{name}_cpu_ms": median(cpu_ms),
    }


def main() -> None:
    wants, there = [claims(seed) for seed in range(RUNS)], nodes()
    mapped = [contenders(seed) for seed in range(RUNS)]
    figures = timed("share", [partial(share, one, POOLS) for one in wants])
    figures |= timed("from_nodes", [partial(shared, one, there, frozenset()) for one in mapped])
    finish("share", figures, {"share_ms": at_most(50), "from_nodes_ms": at_most(50)})


if __name__ == "__main__":
    main()
