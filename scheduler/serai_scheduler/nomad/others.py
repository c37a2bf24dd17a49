"""Keeps what runs in Nomad beside the replicas: what it takes of the nodes is not for them."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from serai.clock import Clock
from serai.errors import Refused, Unavailable
from serai_scheduler.nomad.client import NomadClient

log = logging.getLogger(__name__)

PERIOD_S = 10.0
LIMIT_S = 8.0
KNOWN_FOR_S = 60.0


class Others:
    """Asks every ten seconds for the allocations of other jobs; keep `run` going."""

    def __init__(self, client: NomadClient, clock: Clock, prefix: str) -> None:
        self._client = client
        self._clock = clock
        self._prefix = prefix
        self._found: Sequence[Mapping[str, Any]] = ()
        self._found_at_s = float("-inf")

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LIMIT_S):
                    listed = await self._client.allocations_of_others(f"{self._prefix}-")
                self._found, self._found_at_s = listed.items, self._clock.now()
            except (Unavailable, Refused, TimeoutError) as error:
                log.info("other jobs not seen", extra={"why": str(error) or "not in time"})
            await self._clock.sleep(PERIOD_S)

    @property
    def allocations(self) -> Sequence[Mapping[str, Any]] | None:
        """Return those of other jobs, None where that is not known, or was too long ago."""
        known = self._clock.now() - self._found_at_s <= KNOWN_FOR_S
        return self._found if known else None
