"""Acting as leader for as long as the lease is held, and not a moment longer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random

from serai.clock import Clock, backoff
from serai.errors import Refused, Unavailable
from serai.lease import NEVER, Lease, LeaseSettings
from serai.tasks import cancelled

log = logging.getLogger(__name__)

ACQUIRE_WAIT_S = 30.0
AGAIN_S = 0.2
"""Between two tries to renew while the store does not answer: the lease runs out meanwhile."""


class NoLeader(Unavailable):
    """Nobody can be found who leads; somebody will soon."""


async def lead(
    lease: Lease,
    clock: Clock,
    settings: LeaseSettings,
    act: Callable[[], Awaitable[None]],
    rng: Random,
    tell: Callable[[str], None] = lambda why: None,
) -> None:
    """Take the lease again and again, and run `act` while it is held. Until cancelled.

    `tell` is called with why the lease cannot be had, "" when somebody has it.

    `act` is cancelled when the lease is lost, before another can have it; an error of its own
    gives the lease back and passes through. It has to let go at once when it is cancelled: what it
    leaves running may do harm.
    """
    try:
        await _lead(lease, clock, settings, act, rng, tell)
    finally:
        await lease.release()  # cancelled while it takes the lease, it may have it unawares


async def _lead(
    lease: Lease,
    clock: Clock,
    settings: LeaseSettings,
    act: Callable[[], Awaitable[None]],
    rng: Random,
    tell: Callable[[str], None],
) -> None:
    pauses = backoff(rng, first_s=AGAIN_S, cap_s=settings.ttl_s)
    while True:
        try:
            taken = await lease.acquire(ACQUIRE_WAIT_S)
        except (Unavailable, Refused) as error:
            log.warning("no lease", extra={"why": str(error)})
            tell(str(error))
            await clock.sleep(next(pauses))
            continue
        tell("")
        if taken:
            log.info("leading")
            await _act_while_held(lease, clock, settings, act)
            await clock.sleep(AGAIN_S)  # work that ends at once may not spin
            pauses = backoff(rng, first_s=AGAIN_S, cap_s=settings.ttl_s)


async def _act_while_held(
    lease: Lease, clock: Clock, settings: LeaseSettings, act: Callable[[], Awaitable[None]]
) -> None:
    acting = asyncio.ensure_future(act())
    try:
        await _keep(lease, clock, settings, acting)
    finally:
        await cancelled(acting)
        await lease.release()
    if not acting.cancelled():
        acting.result()


async def _keep(
    lease: Lease, clock: Clock, settings: LeaseSettings, acting: "asyncio.Future[None]"
) -> None:
    """Renew until the lease is lost or the work ends."""
    again_at_s = NEVER
    while True:
        now_s = clock.now()
        left_s = lease.held_until_s - now_s
        pause_s = max(settings.renew_at_s(lease.held_until_s), again_at_s) - now_s
        if left_s <= 0:
            log.warning("the lease is over: it could not be renewed in time")
            return
        await asyncio.wait({acting}, timeout=max(0.0, min(pause_s, left_s)))
        if acting.done():
            return
        try:
            async with asyncio.timeout(max(0.0, lease.held_until_s - clock.now())):
                await lease.renew()
        except (Unavailable, TimeoutError) as error:
            log.warning("lease not renewed", extra={"why": str(error)})
            again_at_s = clock.now() + AGAIN_S
        except Refused as error:
            log.warning("the lease is lost", extra={"why": str(error)})
            return
