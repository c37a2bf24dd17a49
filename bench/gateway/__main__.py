"""What the gateway adds to a request and what it lets through: `python -m bench.gateway`."""

import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

from bench.gateway import held, loglines, vegeta
from bench.gateway.world import World, bare_proxy, memory_server, route, server, world
from bench.load import wrk
from bench.report import Figure, Limit, at_least, at_most, exactly, finish, interleaved, ratio
from bench.runtime.programs import BODY, serai

RATE = 2000
ROUNDS = 7
PREDICTOR_ROUNDS = 5
SECONDS = 3.0
CONNECTIONS = 64
APIS = 20

LIMITS: dict[str, Limit] = {
    "added_p50_ms": at_most(0.3),
    "added_p99_ms": at_most(1.0),
    "c_backend_ratio": at_least(0.5),
    "python_predictor_ratio": at_least(0.85),
    "failed_requests": exactly(0),
    "log_core_share": at_most(0.5),
    "log_lines_missing": exactly(0),
    "read_p50_ms": at_most(10.0),
    "held_core_share": at_most(0.2),
    "held_failed": exactly(0),
    "held_all_answered_s": at_most(2.0),
}
"""`python_predictor` is the usual form, `def predict`; the others are told beside it.
`bare_haproxy_ratio` is what a HAProxy without rules and log reaches between the same two programs:
client, gateway and server share the machine's cores."""


def latency(direct: str, through: str) -> dict[str, Figure]:
    """Compare latencies at a constant rate, turn by turn."""
    program = vegeta.program()
    if program is None:
        why = "no vegeta, and no Go to build it with"
        return {"added_p50_ms": why, "added_p99_ms": why}
    p50: list[float] = []
    p99: list[float] = []
    failed = 0
    seen: dict[str, list[vegeta.Seen]] = {"direct": [], "gateway": []}
    urls = {"direct": direct, "gateway": through}
    for url in urls.values():
        vegeta.attack(program, url, RATE, 1.0)
    for number in range(ROUNDS):
        order = list(urls) if number % 2 == 0 else list(reversed(urls))
        for name in order:
            seen[name].append(vegeta.attack(program, urls[name], RATE, SECONDS))
        one, other = seen["direct"][-1], seen["gateway"][-1]
        p50.append(other.p50_ms - one.p50_ms)
        p99.append(other.p99_ms - one.p99_ms)
        failed += sum(s.success < 1 for s in (one, other))
    return {
        "direct_p50_ms": median(s.p50_ms for s in seen["direct"]),
        "direct_p99_ms": median(s.p99_ms for s in seen["direct"]),
        "added_p50_ms": median(p50),
        "added_p99_ms": median(p99),
        "rounds_with_failures": failed,
    }


def saturation(
    world: World, memory_port: int, bare_port: int, predictors: dict[str, int]
) -> dict[str, Figure]:
    """Compare rates at saturation, turn by turn."""
    errors = 0

    def rate(url: str, body: str | None = None) -> float:
        nonlocal errors
        found = wrk(url, connections=CONNECTIONS, seconds=SECONDS, body=body)
        errors += found.errors
        return found.rate

    memory = interleaved(
        {
            "direct": lambda: rate(f"http://127.0.0.1:{memory_port}/"),
            "gateway": lambda: rate(world.url("/memory/")),
            "bare": lambda: rate(f"http://127.0.0.1:{bare_port}/"),
        },
        ROUNDS,
    )
    figures: dict[str, Figure] = {
        "c_backend_direct_per_s": median(memory["direct"]),
        "c_backend_gateway_per_s": median(memory["gateway"]),
        "c_backend_ratio": ratio(memory, "gateway", "direct"),
        "bare_haproxy_ratio": ratio(memory, "bare", "direct"),
    }
    for name, port in predictors.items():
        found = interleaved(
            {
                "direct": partial(rate, f"http://127.0.0.1:{port}/", BODY),
                "gateway": partial(rate, world.url(f"/{name.replace('_', '-')}/"), BODY),
            },
            PREDICTOR_ROUNDS,
        )
        figures[f"{name}_direct_per_s"] = median(found["direct"])
        figures[f"{name}_gateway_per_s"] = median(found["gateway"])
        figures[f"{name}_ratio"] = ratio(found, "gateway", "direct")
    return {**figures, "failed_requests": errors}


def reading(world: World) -> dict[str, Figure]:
    """Measure how long a reading takes."""
    took = []
    for _ in range(100):
        began_s = time.monotonic()
        found = world.read()
        took.append((time.monotonic() - began_s) * 1000)
    return {
        "read_p50_ms": median(took),
        "read_max_ms": max(took),
        "reloads": found.reloads,
        "haproxy": found.haproxy_version,
    }


def main() -> None:
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            memory_server(folder) as memory,
            bare_proxy(folder, memory.port) as bare,
            serai("hello_blocking", "--concurrency", "256") as blocking,
            serai("hello_async", "--concurrency", "256") as coroutine,
            serai("burn_blocking", "--concurrency", "256") as burning,
            world(folder / "gateway") as one,
        ):
            predictors = {
                "python_predictor": blocking.port,
                "python_async_predictor": coroutine.port,
                "python_1ms_predictor": burning.port,
            }
            names = [name.replace("_", "-") for name in predictors]
            apis = [*map(route, ("memory", *names)), *(route(f"api{n}") for n in range(APIS))]
            servers = [server("memory", memory.port, 512)]
            servers += [
                server(name, port, 256)
                for name, port in zip(names, predictors.values(), strict=True)
            ]
            one.order(apis, servers)
            figures |= latency(memory.url(), one.url("/memory/"))
            figures |= saturation(one, memory.port, bare.port, predictors)
            figures |= reading(one)
            figures |= held.measure(one, apis, servers, memory.port)
    share, missing, dropped = loglines.measure()
    figures |= {
        "log_core_share": share,
        "log_lines_missing": missing,
        "log_lines_dropped_by_sender": dropped,
    }
    finish("gateway", figures, LIMITS)


if __name__ == "__main__":
    main()
