"""HAProxy's own socket, and callers of it that leave."""

import asyncio

from serai_agent.edge.config import STATS_SOCKET
from serai_agent.edge.socket import ask
from tests.support.gateways import Edge
from tests.support.wait import auntil

LONG = ";".join(["show stat"] * 40)


async def test_a_caller_that_is_cancelled_leaves_no_session_behind(one: Edge) -> None:
    """HAProxy does not end before its last session has, which takes half a minute if it is lost."""
    stats = one.folder / STATS_SOCKET

    async def only_this_one() -> bool:
        return (await ask(stats, "show sess")).count("proto=unix_stream") == 1

    for moments in range(60):
        asking = asyncio.create_task(ask(stats, LONG))
        for _ in range(moments):
            await asyncio.sleep(0)  # noqa: TID251  # each moment of an exchange
        asking.cancel()
        await asyncio.wait([asking])
        await auntil(only_this_one, 10.0)
