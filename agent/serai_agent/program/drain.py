"""How a gateway leaves: clients hear of it first, then what is in flight ends, then HAProxy."""

import logging
from collections.abc import Collection

from serai.clock import Clock
from serai.errors import Unavailable
from serai_agent.program.node import GatewayPart

log = logging.getLogger(__name__)

HEARD_LIMIT_S = 15.0
"""How long Consul may take to notice; without Consul nobody can be told."""
POLL_S = 0.2

LAST = (
    "no other gateway takes requests: once this one has drained nobody can call any API. Start "
    "another one first: SIGTERM to the agent breaks the drain off, and an agent that starts ends it"
)


def without_others(names: Collection[str], own: str) -> str:
    """Say that no gateway of those that take requests is another one; "" where there is one."""
    return "" if set(names) - {own} else LAST


async def drain(part: GatewayPart, clock: Clock) -> None:
    """Turn the gateway's check red and return when nothing is in flight, or the limit has passed.

    Requests that come all the same are served. Unavailable when HAProxy does not answer.
    """
    part.draining = True
    await part.haproxy.drain()
    log.info("gateway drains", extra={"gateway": part.name})
    await _heard(part, clock)
    await clock.sleep(part.settings.notice_s)
    until_s = clock.now() + part.settings.drain_limit_s
    while (left := await in_flight(part)) and clock.now() < until_s:
        await clock.sleep(POLL_S)
    log.info("gateway is drained", extra={"gateway": part.name, "in_flight": left})


async def _heard(part: GatewayPart, clock: Clock) -> None:
    """Return once Consul no longer names this gateway, or after the limit."""
    until_s = clock.now() + HEARD_LIMIT_S
    alive = await part.gateways.watch(0, HEARD_LIMIT_S)
    if why := without_others(alive.names, part.name):
        log.warning("the last gateway drains", extra={"gateway": part.name, "why": why})
    while part.name in alive.names and (left_s := until_s - clock.now()) > 0:
        alive = await part.gateways.watch(alive.revision, left_s)


async def in_flight(part: GatewayPart) -> int:
    """Return how many requests the gateway has; those of an unknown number count as one."""
    try:
        reading = await part.haproxy.read()
    except Unavailable:
        return 1 if part.haproxy.pid() is not None else 0
    return sum(one.in_flight + one.queued + one.held for one in reading.versions)
