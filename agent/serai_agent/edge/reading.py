"""From counters of HAProxy and sums of its log to a gateway's reading. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serai.report import ServerTraffic, VersionTraffic
from serai_agent.edge.answers import Seen, parse_pid, parse_sections, parse_seen, parse_table
from serai_agent.edge.outcomes import Key, Outcomes, Sums
from serai_agent.edge.plan import owners


@dataclass(frozen=True)
class Worker:
    """What one HAProxy process has: the present one, or one that a reload retired."""

    seen: Seen
    table: Mapping[str, int]
    """How many requests each API has at once: running, queued and held."""
    pid: int


@dataclass
class _Now:
    in_flight: int = 0
    queued: int = 0
    held: int = 0


def worker_of(answer: str) -> Worker | None:
    """Read a worker's answer to all that is asked of it; None where it broke off."""
    sections = parse_sections(answer)
    pid = parse_pid(sections.info)
    return Worker(parse_seen(sections), parse_table(sections.table), pid) if pid else None


def versions_of(
    workers: Sequence[Worker], apis: Sequence[str], outcomes: Outcomes
) -> tuple[VersionTraffic, ...]:
    """Return the traffic of each version; what is held has no version yet and stands under "".

    What is under way is taken into `outcomes`, which keep what has arrived.
    """
    now: dict[Key, _Now] = {(api, ""): _Now() for api in apis}
    for place, worker in enumerate(workers):
        for key, found in _counts(worker).items():
            total = now.setdefault(key, _Now())
            total.in_flight += found.in_flight
            total.queued += found.queued
            # A retired worker holds nothing: it hands over at once, and only passes on from then.
            total.held += found.held if place == 0 else 0
            outcomes.add_under_way(worker.pid, key, found.in_flight + found.queued)
    for api in {api for api, version in now if not version}:
        present = sum(worker.table.get(api, 0) for worker in workers)
        outcomes.add_held(api, now[api, ""].held, present)
    keys = sorted(now.keys() | outcomes.sums.keys())
    return tuple(_traffic(key, now.get(key, _Now()), outcomes.sums_of(*key)) for key in keys)


def _counts(worker: Worker) -> dict[Key, _Now]:
    """Return one worker's counts.

    The table and the slots are not read at the same instant, so a difference means held requests
    only where requests are held: where no server of the API is ready.
    """
    found: dict[Key, _Now] = {}
    owner_of = owners(worker.seen)
    queued_on: dict[str, int] = {}
    for server in worker.seen.servers:
        queued_on[server.slot] = queued_on.get(server.slot, 0) + server.queued
    for slot, key in owner_of.items():
        counters = worker.seen.slots.get(slot)
        if counters is not None:
            queued = counters.queued + queued_on.get(slot, 0)
            total = found.setdefault(key, _Now())
            total.queued += queued
            total.in_flight += max(0, counters.current - queued)
    serving = {
        owner_of[server.slot][0]
        for server in worker.seen.servers
        if server.up and not server.drain and server.slot in owner_of
    }
    for api, tracked in worker.table.items():
        if api not in serving:
            known = sum(n.in_flight + n.queued for (name, _), n in found.items() if name == api)
            found.setdefault((api, ""), _Now()).held += max(0, tracked - known)
    return found


def _traffic(key: Key, now: _Now, sums: Sums) -> VersionTraffic:
    one, two, three, four, five, gone = sums.outcomes
    return VersionTraffic(
        api=key[0],
        version=key[1],
        in_flight=now.in_flight,
        queued=now.queued,
        held=now.held,
        arrivals=sums.arrivals,
        completions=sums.completions,
        outcomes=(one, two, three, four, five, gone),
        refused=sums.refused,
        latency_buckets=tuple(sums.buckets),
        latency_sum_ms=sums.latency_sum_ms,
        bytes_in=sums.bytes_in,
        bytes_out=sums.bytes_out,
    )


def unanswered_of(workers: Sequence[Worker]) -> dict[str, int]:
    """Return how many requests ended without an answer, by slot."""
    found: dict[str, int] = {}
    for worker in workers:
        for name, slot in worker.seen.slots.items():
            found[name] = found.get(name, 0) + slot.unanswered
    return found


def servers_of(workers: Sequence[Worker]) -> tuple[ServerTraffic, ...]:
    """Return each server's state in the present worker and its requests in all of them."""
    in_flight: dict[str, int] = {}
    states: dict[str, str] = {}
    for worker in workers:
        for server in worker.seen.servers:
            in_flight[server.name] = in_flight.get(server.name, 0) + server.in_flight
    for server in workers[0].seen.servers if workers else ():
        # One that moves between slots is there twice: what takes new requests counts.
        if states.get(server.name) != "up":
            leaving = server.drain or server.maintenance
            states[server.name] = "draining" if leaving else "up" if server.up else "down"
    return tuple(
        ServerTraffic(server=name, state=states.get(name, "draining"), in_flight=count)
        for name, count in sorted(in_flight.items())
    )
