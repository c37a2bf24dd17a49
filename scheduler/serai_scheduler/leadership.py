"""Acting as leader for as long as the lease is held, and not a moment longer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random

from serai.clock import Clock, backoff
from serai.errors import Refused, Unavailable
from serai.lease import Lease, LeaseSettings

log = logging.getLogger(__name__)

ACQUIRE_WAIT_S = 30.0
AGAIN_S = 0.2
"""Between two tries to renew while the store does not answer: the lease runs out meanwhile."""


async def lead(
    lease: Lease,
    clock: Clock,
    settings: LeaseSettings,
    act: Callable[[], Awaitable[None]],
    rng: Random,
) -> None:
    """Take the lease again and again, and run `act` while it is held. Until cancelled.

    `act` is cancelled when the lease is lost, before another can have it; an error of its own
    gives the lease back and passes through. It has to let go at once when it is cancelled: what it
    leaves running may do harm.
    """
    try:
        await _lead(lease, clock, settings, act, rng)
    finally:
        await lease.release()  # cancelled while it takes the lease, it may have it unawares


async def _lead(
    lease: Lease,
    clock: Clock,
    settings: LeaseSettings,
    act: Callable[[], Awaitable[None]],
    rng: Random,
) -> None:
    pauses = backoff(rng, first_s=AGAIN_S, cap_s=settings.ttl_s)
    while True:
        try:
            taken = await lease.acquire(ACQUIRE_WAIT_S)
        except (Unavailable, Refused) as error:
            log.warning("no lease", extra={"why": str(error)})
            await clock.sleep(next(pauses))
            continue
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
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)
        await lease.release()
    if not acting.cancelled():
        acting.result()


async def _keep(
    lease: Lease, clock: Clock, settings: LeaseSettings, acting: "asyncio.Future[None]"
) -> None:
    """Renew until the lease is lost or the work ends."""
    pause_s = settings.renew_period_s
    while True:
        left_s = lease.held_until_s - clock.now()
        if left_s <= 0:
            log.warning("the lease is over: it could not be renewed in time")
            return
        await asyncio.wait({acting}, timeout=min(pause_s, left_s))
        if acting.done():
            return
        try:
            async with asyncio.timeout(max(0.0, lease.held_until_s - clock.now())):
                await lease.renew()
            pause_s = settings.renew_period_s
        except (Unavailable, TimeoutError) as error:
            log.warning("lease not renewed", extra={"why": str(error)})
            pause_s = AGAIN_S
        except Refused as error:
            log.warning("the lease is lost", extra={"why": str(error)})
            return
