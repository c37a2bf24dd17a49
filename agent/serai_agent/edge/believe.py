"""Which servers to believe in when the registry suddenly forgets most of them. Pure.

A registry that comes back empty is more often wrong than right: a server whose own check passes
stays for a while when more than half of an API's servers would go at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from serai.model import Server

DISBELIEF_S = 30.0


@dataclass(frozen=True)
class Belief:
    """The servers to work with, and since when each one missing from the registry is kept."""

    servers: tuple[Server, ...] = ()
    missing_since_s: dict[str, float] = field(default_factory=dict)


def unrouted(before: Belief, routed: frozenset[str]) -> frozenset[str]:
    """Return the replicas of APIs that are no longer routed: they are meant to go."""
    return frozenset(server.replica for server in before.servers if server.api not in routed)


def believe(
    before: Belief,
    listed: Sequence[Server],
    up: frozenset[str],
    draining: frozenset[str],
    now_s: float,
) -> Belief:
    """Return the servers to work with.

    `up` names the servers whose own check passes, `draining` the replicas that are meant to go.
    """
    names = {server.id for server in listed}
    kept: list[Server] = []
    since: dict[str, float] = {}
    for api in {server.api for server in before.servers}:
        mine = [server for server in before.servers if server.api == api]
        gone = [s for s in mine if s.id not in names and s.replica not in draining]
        if 2 * len(gone) <= len(mine):
            continue
        for server in gone:
            first_s = before.missing_since_s.get(server.id, now_s)
            if server.id in up and now_s - first_s < DISBELIEF_S:
                kept.append(server)
                since[server.id] = first_s
    ordered = sorted([*listed, *kept], key=lambda server: server.id)
    return Belief(tuple(ordered), since)
