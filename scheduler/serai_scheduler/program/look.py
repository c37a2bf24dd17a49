"""Asks the programs of a cluster what they are, for `serai_scheduler.doctor`."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from serai.consul.client import ConsulClient
from serai.errors import Refused, Unavailable
from serai_scheduler.doctor import Client, Program, Seen
from serai_scheduler.nomad.client import NomadClient

LOOK_LIMIT_S = 5.0
ALIVE = 1
"""How Consul's gossip counts a member that is there."""

T = TypeVar("T")


async def look(nomad: NomadClient, consul: ConsulClient) -> Seen:
    """Return what the programs tell, each asked within a few seconds; none is no error."""
    servers, clients, members, connections = await asyncio.gather(
        _told(_servers(nomad)),
        _told(_clients(nomad)),
        _told(_members(consul)),
        _told(_connections(consul)),
    )
    return Seen(
        nomad_servers=servers[0] or (),
        nomad_clients=clients[0] or (),
        nomad_problem=servers[1] or clients[1],
        consul=members[0] or (),
        consul_connections=connections[0],
        consul_problem=members[1],
    )


async def _told(asking: Awaitable[T]) -> tuple[T | None, str]:
    """Return the answer and "", or None and why there is none."""
    try:
        async with asyncio.timeout(LOOK_LIMIT_S):
            return await asking, ""
    except (Unavailable, Refused) as error:
        return None, str(error)
    except TimeoutError:
        return None, f"no answer within {LOOK_LIMIT_S:g} s"


async def _servers(nomad: NomadClient) -> tuple[Program, ...]:
    return tuple(Program(name=name, version=build) for name, build in await nomad.servers())


async def _clients(nomad: NomadClient) -> tuple[Client, ...]:
    return tuple(
        Client(
            name=one["Name"],
            version=one["Version"],
            drivers={
                name: bool(driver.get("Healthy"))
                for name, driver in (one.get("Drivers") or {}).items()
            },
        )
        for one in (await nomad.nodes()).items
        if one["Status"] == "ready"
    )


async def _members(consul: ConsulClient) -> tuple[Program, ...]:
    """Return Consul's servers that are there; what others of its agents are is not ours to say."""
    members = (await consul.get("/v1/agent/members")).decoded(list)
    return tuple(
        Program(name=one["Name"], version=one["Tags"].get("build", ""))
        for one in members
        if one.get("Status") == ALIVE and (one.get("Tags") or {}).get("role") == "consul"
    )


async def _connections(consul: ConsulClient) -> int | None:
    told = (await consul.get("/v1/agent/self")).decoded(dict)
    allowed = (told.get("DebugConfig") or {}).get("HTTPMaxConnsPerClient")
    return allowed if isinstance(allowed, int) else None
