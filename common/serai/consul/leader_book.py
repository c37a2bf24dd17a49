"""Knowing who leads, as Consul's key tells, all the time."""

import asyncio
import logging
from collections.abc import Iterator
from random import Random

from serai.clock import Clock, backoff
from serai.consul.client import ConsulClient
from serai.consul.leader import Leader, watch_leader
from serai.errors import ConfigError, Refused, Unavailable

log = logging.getLogger(__name__)

WAIT_S = 60.0
AGAIN_S = 0.2
LONGEST_PAUSE_S = 5.0
LEAST_TURN_S = 0.02


class LeaderBook:
    """Who leads, by what Consul last said; keep `run` going. While Consul is away that stays."""

    def __init__(self, client: ConsulClient, clock: Clock, rng: Random, prefix: str) -> None:
        self._client = client
        self._clock = clock
        self._rng = rng
        self._prefix = prefix
        self._changed = asyncio.Event()
        self.known: Leader | None = None
        self.why = ""
        """Why Consul does not tell who leads at this moment, "" while it does."""

    async def run(self) -> None:
        """Follow the key until cancelled."""
        index = 0
        pauses = self._pauses()
        while True:
            try:
                index, leader = await watch_leader(self._client, self._prefix, index, WAIT_S)
            except (Unavailable, Refused, ConfigError) as error:
                if str(error) != self.why:
                    log.warning("leader not known", extra={"why": str(error)})
                index, self.why = 0, str(error)
                await self._clock.sleep(next(pauses))
                continue
            pauses, self.why = self._pauses(), ""
            self._note(leader)
            await self._clock.sleep(LEAST_TURN_S)  # a key that flaps may not keep us busy

    async def other_than(self, leader: Leader) -> None:
        """Return once somebody else leads, or nobody."""
        while self.known == leader:
            await self._changed.wait()

    async def moved_from(self, address: str) -> None:
        """Return once it is not, or no more, the one at this address who leads."""
        while self.known is not None and self.known.address.rstrip("/") == address.rstrip("/"):
            await self._changed.wait()

    def _note(self, leader: Leader | None) -> None:
        if leader == self.known:
            return
        self.known = leader
        self._changed.set()
        self._changed = asyncio.Event()
        facts = {"address": leader.address, "epoch": leader.epoch} if leader else {}
        log.info("leader" if leader else "no leader", extra=facts)

    def _pauses(self) -> Iterator[float]:
        return backoff(self._rng, first_s=AGAIN_S, cap_s=LONGEST_PAUSE_S)
