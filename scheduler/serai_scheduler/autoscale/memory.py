"""What was learned, in the store: read once by a new leader, written now and then."""

import asyncio
import logging
from collections.abc import Collection, Mapping

from serai import wire
from serai.errors import Refused, Unavailable
from serai_scheduler.autoscale.learned import Found, Learned, read
from serai_scheduler.state import LEARNED_AT_ONCE, State

log = logging.getLogger(__name__)

KEEP_S = 120.0
"""How often what was learned of an API is kept; a store has to bear it for hundreds of them."""
LIMIT_S = 5.0


class Memory:
    """The `learned/` keys of the store; without the store nothing is learned anew, but decided."""

    def __init__(self, state: State, epoch: int) -> None:
        self._state = state
        self._epoch = epoch
        self._found: Mapping[str, bytes] | None = None
        self._kept_at_s: dict[str, float] = {}
        self.before: frozenset[str] = frozenset()
        """The APIs that there were when this leader began."""

    async def recall(self) -> bool:
        """Read what is kept, once; say whether that has been done."""
        if self._found is not None:
            return True
        try:
            async with asyncio.timeout(LIMIT_S):
                self.before = frozenset(await self._state.read())
                self._found = await self._state.learned()
        except (Unavailable, TimeoutError) as error:
            log.warning("what was learned is not read yet", extra={"why": str(error)})
            return False
        return True

    def found(self, api: str, wall_s: float) -> Found:
        """Return what was kept of an API before this leader."""
        found = read((self._found or {}).get(api), wall_s)
        if found.why and api in (self._found or {}):
            log.warning("what was learned is left out", extra={"api": api, "why": found.why})
        return found

    def ended(self, api: str) -> None:
        """Note that an API is gone: one of its name that comes later is another."""
        self.before -= {api}

    def due(self, apis: Collection[str], now_s: float) -> list[str]:
        """Return whose turn it is now and over then, those first that wait for longest."""
        for gone in self._kept_at_s.keys() - set(apis):
            del self._kept_at_s[gone]
        waiting = [
            (kept_at_s, api)
            for api in apis
            if now_s - (kept_at_s := self._kept_at_s.setdefault(api, now_s)) >= KEEP_S
        ]
        due = [api for _, api in sorted(waiting)[:LEARNED_AT_ONCE]]
        # One that has nothing to keep has had its turn all the same.
        self._kept_at_s.update(dict.fromkeys(due, now_s))
        return due

    async def keep(self, learned: Mapping[str, Learned]) -> None:
        """Keep these, LEARNED_AT_ONCE at most; what cannot be kept is tried again in its turn."""
        values = {api: wire.encode(one) for api, one in learned.items()}
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._state.keep_learned(values, self._epoch)
        except (Refused, Unavailable, TimeoutError) as error:
            why = str(error) or "no answer in time"
            log.warning("what was learned is not kept", extra={"why": why})

    async def forget_others(self, apis: Collection[str]) -> None:
        """Forget what is kept of APIs that are gone, some at a time."""
        gone = sorted((self._found or {}).keys() - set(apis))[:LEARNED_AT_ONCE]
        if not gone or self._found is None:
            return
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._state.keep_learned(dict.fromkeys(gone), self._epoch)
        except (Refused, Unavailable, TimeoutError) as error:
            log.warning("what was learned is not forgotten", extra={"why": str(error)})
            return
        self._found = {api: one for api, one in self._found.items() if api not in gone}
