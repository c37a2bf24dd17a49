"""How what replicas take at once is divided among the gateways that are alive. Pure.

All gateways compute the same from the same lists, so nobody has to hand anything out.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import msgspec

from serai.model import Server

Shares = dict[str, dict[str, int]]
"""How many requests at once each server (by id) takes from each gateway; no entry is none."""

RANKINGS_KEPT = 2**15


@dataclass(frozen=True)
class Part:
    """One gateway's part: servers with the capacity that it has of them, and those it has not."""

    mine: tuple[Server, ...]
    elsewhere: frozenset[str]


def part_of(
    gateway: str,
    servers: Sequence[Server],
    gateways: Collection[str],
    draining: Collection[str] = (),
) -> Part:
    """Return the part of `gateway`, which is one of `gateways`; `draining` names replicas."""
    shares = shares_of(servers, gateways, draining)
    mine: list[Server] = []
    elsewhere: set[str] = set()
    for server in servers:
        share = shares[server.id].get(gateway, 0)
        if share == server.capacity:
            mine.append(server)
        elif share:
            mine.append(msgspec.structs.replace(server, capacity=share))
        else:
            elsewhere.add(server.id)
    return Part(tuple(mine), frozenset(elsewhere))


def shares_of(
    servers: Sequence[Server], gateways: Collection[str], draining: Collection[str] = ()
) -> Shares:
    """Return every gateway's share of every server.

    A server's shares add up to its capacity and differ by at most one; with fewer slots than
    gateways a server belongs to that many of them, chosen by rendezvous hash, so that few change
    when a gateway comes or goes. No gateway is left without a slot of a version: it takes one of
    the gateway with the most, or, where each has at most one, one beyond the capacity (the replica
    lets that request wait).
    """
    names = tuple(sorted(gateways))
    shares = {server.id: _split(server, names) for server in servers}
    groups: dict[tuple[str, str], list[str]] = {}
    for server in servers:
        if server.replica not in draining:
            groups.setdefault((server.api, server.version), []).append(server.id)
    for group in groups.values():
        _leave_none_out(group, names, shares)
    return shares


def _split(server: Server, names: tuple[str, ...]) -> dict[str, int]:
    each, rest = divmod(server.capacity, len(names))
    given = names if each else ranked(server.id, names)[:rest]
    first = set(ranked(server.id, names)[:rest]) if rest else set()
    return {name: each + (name in first) for name in given}


def _leave_none_out(group: Iterable[str], names: tuple[str, ...], shares: Shares) -> None:
    totals = dict.fromkeys(names, 0)
    ids = sorted(group)
    for server in ids:
        for name, share in shares[server].items():
            totals[name] += share
    for name in names:
        if totals[name]:
            continue
        richest = max(names, key=lambda other: (totals[other], other))
        gives = totals[richest] > 1
        choice = [one for one in ids if richest in shares[one]] if gives else ids
        server = min(choice, key=lambda one: (ranked(one, names).index(name), one))
        if gives:
            shares[server][richest] -= 1
            if not shares[server][richest]:
                del shares[server][richest]
            totals[richest] -= 1
        shares[server][name] = shares[server].get(name, 0) + 1
        totals[name] += 1


@lru_cache(maxsize=RANKINGS_KEPT)
def ranked(server: str, gateways: tuple[str, ...]) -> tuple[str, ...]:
    """Return the gateways in the order of a server's own liking (rendezvous hash)."""

    def liking(gateway: str) -> bytes:
        return blake2b(f"{server}\0{gateway}".encode(), digest_size=8).digest()

    return tuple(sorted(gateways, key=liking))


def to_share_with(me: str, listed: Collection[str], before: Collection[str]) -> frozenset[str]:
    """Return the gateways to divide among; `before` are those of the last division, if any.

    A list without this gateway tells nothing about the others, for the registry may just have lost
    its data, and one that drains is to keep its part until its end.
    """
    if me in listed:
        return frozenset(listed)
    return frozenset(before) or frozenset({*listed, me})
