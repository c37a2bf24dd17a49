"""`make bench-gateway`: what the gateway adds to a request, and what it lets through.

The backend of the first part is a second HAProxy that answers from memory (a C program); of the
last one a predictor under the runtime. Needs vegeta and wrk; vegeta is built with Go when absent.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.load import wrk
from bench.report import ROOT, Figure, at_least, at_most, finish, interleaved, ratio
from serai.model import Server
from tests.support.gateways import DISTRIBUTION, Edge, edge, route
from tests.support.ports import free_port
from tests.support.runtime import served
from tests.support.wait import until

RATE_PER_S = 2000
SECONDS = 8
ROUNDS = 5
WRK_SECONDS = 4.0
CONNECTIONS = 32
TOOLS = ROOT / "bench" / ".work" / "bin"
BODY = '{"x": [1, 2, 3]}'
HELLO = "class Predictor:\n    def predict(self, payload):\n        return sum(payload['x'])\n"
MEMORY = """global
    nbthread 1
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend memory
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string "ok"
"""


def vegeta() -> str:
    """Return the open-loop generator; RuntimeError says how to get it."""
    found = shutil.which("vegeta") or str(TOOLS / "vegeta")
    if not Path(found).exists():
        if shutil.which("go") is None:
            raise RuntimeError("vegeta is needed: put it on PATH, or Go to build it")
        subprocess.run(
            ["go", "install", "github.com/tsenart/vegeta/v12@latest"],
            env={**os.environ, "GOBIN": str(TOOLS)},
            check=True,
        )
    return found


def latencies_ms(url: str) -> tuple[float, float]:
    """Return p50 and p99 at a constant rate; every answer has to be 200."""
    attack = [vegeta(), "attack", f"-rate={RATE_PER_S}", f"-duration={SECONDS}s", "-max-workers=64"]
    raw = subprocess.run(
        attack, input=f"GET {url}\n".encode(), stdout=subprocess.PIPE, check=True
    ).stdout
    report = subprocess.run(
        [vegeta(), "report", "-type=json"], input=raw, stdout=subprocess.PIPE, check=True
    ).stdout
    told = json.loads(report)
    assert told["success"] == 1.0, told["status_codes"]
    return told["latencies"]["50th"] / 1e6, told["latencies"]["99th"] / 1e6


def server(port: int, capacity: int) -> Server:
    return Server(
        id="fast.v1.1.0",
        replica="fast.v1.1",
        api="fast",
        version="v1",
        host="127.0.0.1",
        port=port,
        capacity=capacity,
    )


async def added(one: Edge, direct: str) -> dict[str, Figure]:
    """Return the latency that the gateway adds, medians over interleaved rounds."""
    through = f"{one.url}/fast"
    found: dict[str, list[tuple[float, float]]] = {"direct": [], "gateway": []}
    for _ in range(ROUNDS):
        for name, url in (("direct", direct), ("gateway", through)):
            found[name].append(await asyncio.to_thread(latencies_ms, url))
    p50 = {name: median(pair[0] for pair in pairs) for name, pairs in found.items()}
    p99 = {name: median(pair[1] for pair in pairs) for name, pairs in found.items()}
    pairs = list(zip(found["gateway"], found["direct"], strict=True))
    return {
        "direct_p50_ms": p50["direct"],
        "direct_p99_ms": p99["direct"],
        "gateway_p50_ms": p50["gateway"],
        "gateway_p99_ms": p99["gateway"],
        "added_p50_ms": median(g[0] - d[0] for g, d in pairs),
        "added_p99_ms": median(g[1] - d[1] for g, d in pairs),
    }


async def saturation(one: Edge, direct: str, name: str, body: str | None) -> dict[str, Figure]:
    """Return the rate through the gateway against the direct one."""

    def rate(url: str) -> float:
        result = wrk(url, connections=CONNECTIONS, seconds=WRK_SECONDS, body=body)
        assert result.errors == 0, f"{result.errors} wrong answers from {url}"
        return result.rate

    found = await asyncio.to_thread(
        interleaved,
        {"direct": lambda: rate(direct), "gateway": lambda: rate(f"{one.url}/fast")},
        ROUNDS,
    )
    return {
        f"{name}_direct_per_s": median(found["direct"]),
        f"{name}_gateway_per_s": median(found["gateway"]),
        f"{name}_ratio": ratio(found, "gateway", "direct"),
    }


@contextmanager
def memory_backend(folder: Path) -> Iterator[int]:
    """Run a server that answers from memory; yield its port."""
    port = free_port()
    (folder / "memory.cfg").write_text(MEMORY.format(port=port))
    memory = subprocess.Popen([DISTRIBUTION, "-db", "-f", str(folder / "memory.cfg")])
    try:
        yield port
    finally:
        memory.send_signal(signal.SIGTERM)
        memory.wait()


async def measure(folder: Path) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    routes = [route("fast", queue_limit=10_000)]
    with memory_backend(folder) as port:
        async with edge(folder, "2.6") as one:
            await one.gateway.apply(routes, [server(port, 10_000)])
            direct = f"http://127.0.0.1:{port}/"
            await asyncio.to_thread(latencies_ms, f"{one.url}/fast")  # warm
            figures |= await added(one, direct)
            figures |= await saturation(one, direct, "c_backend", None)
    (folder / "hello.py").write_text(HELLO)
    with served(folder / "hello.py", folder, "--concurrency", "64") as replica:
        until(replica.ready, 20)
        async with edge(folder / "second", "2.6") as one:
            await one.gateway.apply(routes, [server(replica.ports[0], 64)])
            figures |= await saturation(one, replica.url + "/", "predictor", BODY)
    return figures


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder)))
    limits = {
        "added_p50_ms": at_most(0.3),
        "added_p99_ms": at_most(1.0),
        "c_backend_ratio": at_least(0.5),
        "predictor_ratio": at_least(0.85),
    }
    finish("gateway", figures, limits)


if __name__ == "__main__":
    main()
