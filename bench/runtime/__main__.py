"""How fast, how small and how careful the runtime is: `python -m bench.runtime [--no-peers]`."""

import argparse
import asyncio
import contextlib
import json
import signal
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from bench.load import Checked, CheckedClient, post, wrk
from bench.report import Figure, Limit, at_least, at_most, exactly, finish, interleaved, ratio
from bench.runtime.peers import PEERS, install, serving
from bench.runtime.programs import BODY, Running, plain, serai

CONNECTIONS = 32
ROUNDS = 5
SECONDS = 3.0
MANY = ("--concurrency", "64")
STOPS = 20
BATCH_WAIT_MS = 20.0

LIMITS: dict[str, Limit] = {
    "hello_blocking_ratio": at_least(0.75),
    "hello_async_ratio": at_least(1.0),
    "burn_ratio": at_least(0.92),
    "p50_one_connection_ratio": at_most(2.0),
    "async_against_best_peer": at_least(3.0),
    "batch_added_lone_ms": at_most(0.5),
    "batch_added_in_company_ms": at_most(BATCH_WAIT_MS + 2),
    "resident_mib": at_most(60),
    "ready_s": at_most(1.0),
    "wrong_of_200_connections": exactly(0),
    "drain_lost": exactly(0),
    "drain_orphans": exactly(0),
    "load_errors": exactly(0),
}
"""`batch_added_lone_ms`: "nothing" is held as less than the half millisecond that one can measure.
`batch_added_in_company_ms`: the whole answer, so `max_wait`, a request's time and a timer's."""


class Rates:
    """Measures rates with wrk and counts wrong answers over all of them."""

    def __init__(self) -> None:
        self.errors = 0

    def rate(self, server: Running, path: str = "/", body: str = BODY) -> float:
        """Return answers per second at 32 connections."""
        url = server.url(path)
        found = wrk(url, connections=CONNECTIONS, seconds=SECONDS, body=body)
        self.errors += found.errors
        return found.rate

    def p50_ms(self, server: Running) -> float:
        found = wrk(server.url(), connections=1, seconds=SECONDS, body=BODY)
        self.errors += found.errors
        return found.p50_ms


def speed(rates: Rates) -> dict[str, Figure]:
    """Compare with the plain handler."""
    figures: dict[str, Figure] = {}
    with (
        plain() as bare,
        serai("hello_blocking", *MANY) as blocking,
        serai("hello_async", *MANY) as coroutine,
        serai("burn_blocking", *MANY) as burning,
    ):
        hello = interleaved(
            {
                "plain": lambda: rates.rate(bare),
                "blocking": lambda: rates.rate(blocking),
                "async": lambda: rates.rate(coroutine),
            },
            ROUNDS,
        )
        burn = interleaved(
            {
                "plain": lambda: rates.rate(bare, "/burn"),
                "blocking": lambda: rates.rate(burning),
            },
            ROUNDS,
        )
        lone = interleaved(
            {"plain": lambda: rates.p50_ms(bare), "blocking": lambda: rates.p50_ms(blocking)},
            ROUNDS,
        )
    for name, found in hello.items():
        figures[f"hello_{name}_per_s"] = median(found)
    for name, found in burn.items():
        figures[f"burn_{name}_per_s"] = median(found)
    for name, found in lone.items():
        figures[f"p50_one_connection_{name}_ms"] = median(found)
    figures["hello_blocking_ratio"] = ratio(hello, "blocking", "plain")
    figures["hello_async_ratio"] = ratio(hello, "async", "plain")
    figures["burn_ratio"] = ratio(burn, "blocking", "plain")
    figures["p50_one_connection_ratio"] = ratio(lone, "blocking", "plain")
    return figures


def against_peers(rates: Rates) -> dict[str, Figure]:
    """Compare with the other servers, one after the other, each in turn with ours."""
    figures: dict[str, Figure] = {}
    ratios: list[float] = []
    for peer in PEERS:
        own_errors = Rates()
        try:
            install(peer)
            with serving(peer) as server, serai("hello_async", *MANY) as ours:
                own_errors.rate(server, peer.path, peer.body)  # warm
                found = interleaved(
                    {
                        "ours": lambda ours=ours: rates.rate(ours),  # type: ignore[misc]
                        "peer": lambda server=server, peer=peer, errors=own_errors: errors.rate(  # type: ignore[misc]
                            server, peer.path, peer.body
                        ),
                    },
                    3,
                )
        except (RuntimeError, OSError) as error:
            figures[f"peer_{peer.name}"] = f"did not run: {error}"
            continue
        ratios.append(ratio(found, "ours", "peer"))
        figures[f"peer_{peer.name}_version"] = peer.version()
        figures[f"peer_{peer.name}_per_s"] = median(found["peer"])
        figures[f"peer_{peer.name}_wrong"] = own_errors.errors
        figures[f"async_against_{peer.name}"] = ratios[-1]
    figures["async_against_best_peer"] = min(ratios) if len(ratios) == len(PEERS) else None
    return figures


def size() -> dict[str, Figure]:
    """Measure the time to readiness and the memory of one hello process and its supervisor."""
    ready_s, worker_mib, supervisor_mib, unique_mib = [], [], [], []
    for _ in range(ROUNDS):
        with serai("hello_blocking") as server:
            ready_s.append(server.ready_s)
            wrk(server.url(), connections=1, seconds=1, body=BODY)
            supervisor, *workers = server.family()
            supervisor_mib.append(supervisor.memory_info().rss / 2**20)
            worker_mib.append(sum(one.memory_info().rss for one in workers) / 2**20)
            infos = [one.memory_full_info() for one in (supervisor, *workers)]
            unique_mib.append(sum(info.pss for info in infos) / 2**20)
    return {
        "ready_s": median(ready_s),
        "resident_mib": median(a + b for a, b in zip(worker_mib, supervisor_mib, strict=True)),
        "resident_worker_mib": median(worker_mib),
        "resident_supervisor_mib": median(supervisor_mib),
        "proportional_mib": median(unique_mib),
    }


def batching(rates: Rates) -> dict[str, Figure]:
    """Measure what batching adds: to a lone request, and at most when others run."""
    limits = ("--batch-max-size", "64", "--batch-max-wait-ms", f"{BATCH_WAIT_MS:g}")
    with (
        serai("batch_off", *MANY) as without,
        serai("batch_on", *MANY, *limits) as batched,
        serai("batch_slow", "--threads", "2", *MANY, *limits) as slow,
    ):
        lone = interleaved(
            {"off": lambda: rates.p50_ms(without), "on": lambda: rates.p50_ms(batched)}, ROUNDS
        )
        waits_ms = asyncio.run(_gathering_ms(slow))
    return {
        "batch_added_lone_ms": median(
            on - off for on, off in zip(lone["on"], lone["off"], strict=True)
        ),
        "batch_added_in_company_ms": median(waits_ms),
        "batch_added_in_company_worst_ms": max(waits_ms),
    }


async def _gathering_ms(slow: Running) -> list[float]:
    """Return how long requests take that do nothing and come while another one runs."""
    waits_ms: list[float] = []
    for _ in range(20):
        long = CheckedClient("127.0.0.1", slow.port, lambda n: (post("/", b'{"s": 0.2}'), b"0.2"))
        running = asyncio.create_task(long.run(connections=1, requests=1))
        await asyncio.sleep(0.05)
        short = CheckedClient("127.0.0.1", slow.port, lambda n: (post("/", b'{"s": 0}'), b"0"))
        seen = await short.run(connections=1, requests=1)
        if seen.right != 1:
            raise RuntimeError(f"a wrong answer: {seen.notes}")
        waits_ms.append(seen.latencies_s[0] * 1000)
        await running
    return waits_ms


def _numbered(number: int, last: bool = False) -> tuple[bytes, bytes]:
    body = json.dumps({"a": number, "b": 1, "c": 2}).encode()
    return post("/", body, last), b'{"sum":%d}' % (number + 3)


def truth() -> dict[str, Figure]:
    """Check every answer of 200 connections."""
    with serai("hello_blocking", "--concurrency", "200", "--threads", "2") as server:
        client = CheckedClient("127.0.0.1", server.port, _numbered)
        seen = asyncio.run(client.run(connections=200, seconds=5))
    return {
        "answers_of_200_connections": seen.right,
        "wrong_of_200_connections": seen.wrong + seen.lost + seen.refused,
    }


def draining() -> dict[str, Figure]:
    """End servers under load, again and again: no request may be lost, no process stay."""
    lost = wrong = right = orphans = 0
    longest_s = 0.0
    for stop in range(STOPS):
        with serai("hello_blocking", *MANY, "--threads", "2") as server:
            # Every other time each request has a connection of its own: what the kernel has
            # accepted and the server has not is lost there by most.
            seen, took_s, left = asyncio.run(_drain(server, short=stop % 2 == 1))
        lost, wrong, right = lost + seen.lost, wrong + seen.wrong, right + seen.right
        orphans += left
        longest_s = max(longest_s, took_s)
    return {
        "drain_stops": STOPS,
        "drain_answers": right,
        "drain_lost": lost + wrong,
        "drain_longest_s": longest_s,
        "drain_orphans": orphans + _orphans_of_a_kill(),
    }


async def _drain(server: Running, short: bool) -> tuple[Checked, float, int]:
    family = server.family()
    client = CheckedClient("127.0.0.1", server.port, lambda number: _numbered(number, short))
    load = asyncio.create_task(client.run(connections=CONNECTIONS))
    while client.seen.right < 2000:  # noqa: ASYNC110  # a benchmark may poll
        await asyncio.sleep(0.01)
    began_s = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    await load
    status = await asyncio.to_thread(server.process.wait, 30)
    if status != 0:
        client.seen.wrong += 1
    took_s = time.monotonic() - began_s
    return client.seen, took_s, sum(1 for one in family if one.is_running())


def _orphans_of_a_kill() -> int:
    """Kill the supervisor alone and count who is left."""
    with serai("hello_blocking") as server:
        workers = server.family()[1:]
        server.process.kill()
        gone, left = psutil.wait_procs(workers, 5)
        return len(left) + (0 if gone else 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.runtime", description=__doc__)
    parser.add_argument("--no-peers", action="store_true", help="leave out the other servers")
    chosen = parser.parse_args()
    rates = Rates()
    figures: dict[str, Figure] = {}
    with contextlib.chdir(Path(tempfile.gettempdir())):
        figures |= size()
        figures |= speed(rates)
        figures |= batching(rates)
        figures |= truth()
        figures |= draining()
        if not chosen.no_peers:
            figures |= against_peers(rates)
    figures["load_errors"] = rates.errors
    finish("runtime", figures, LIMITS)


if __name__ == "__main__":
    main()
