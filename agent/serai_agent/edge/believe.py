"""Which servers and routes to believe in when registry or store suddenly forget them. Pure.

A registry that comes back empty is more often wrong than right: a server whose own check passes
stays for a while when more than half of an API's servers would go at once. Of the store it can be
told for certain: whoever takes a route away has an epoch as high as that of all routes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from serai.model import Server
from serai.routes import Route

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
    leaving: frozenset[str],
    now_s: float,
) -> Belief:
    """Return the servers to work with.

    `up` names the servers whose own check passes, `leaving` the replicas and single servers that
    are meant to go.
    """
    names = {server.id for server in listed}
    kept: list[Server] = []
    since: dict[str, float] = {}
    for api in {server.api for server in before.servers}:
        mine = [server for server in before.servers if server.api == api]
        gone = [s for s in mine if s.id not in names and not leaving & {s.id, s.replica}]
        if 2 * len(gone) <= len(mine):
            continue
        for server in gone:
            first_s = before.missing_since_s.get(server.id, now_s)
            if server.id in up and now_s - first_s < DISBELIEF_S:
                kept.append(server)
                since[server.id] = first_s
    ordered = sorted([*listed, *kept], key=lambda server: server.id)
    return Belief(tuple(ordered), since)


def set_back(held: Sequence[Route], found: Sequence[Route]) -> bool:
    """Say whether routes have gone, or are of an epoch before: the store may have lost its data."""
    epochs = {route.api: route.epoch for route in found}
    return any(epochs.get(route.api, -1) < route.epoch for route in held)


def routes_to_follow(
    held: Sequence[Route], found: Sequence[Route], leader_epoch: int | None
) -> tuple[Route, ...] | None:
    """Return the routes to carry out; None when the store is not to be believed.

    `leader_epoch` is that of the key `leader`, read after the routes; None is unknown.
    """
    if not set_back(held, found):
        return tuple(found)
    if leader_epoch is None or leader_epoch < max(route.epoch for route in held):
        return None
    newest = {route.api: route for route in held}
    return tuple(
        newest[route.api]
        if route.api in newest and newest[route.api].epoch > route.epoch
        else route
        for route in found
    )
