"""Filling a scheduler's own folder with what versions need and it lacks, from the others."""

import asyncio
import logging
from collections import deque
from collections.abc import Collection

from serai.blobs import PAGE_DIGESTS, Blobs, DiskFull
from serai.clock import Clock
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.metrics import Metrics
from serai_scheduler.blobs.majority import MajorityBlobs
from serai_scheduler.blobs.needed import Roots, manifest_of, roots_of
from serai_scheduler.state import State

log = logging.getLogger(__name__)

PERIOD_S = 10.0
LIMIT_S = 900.0
"""For one look with all that it copies; what it brought stays, and the next goes on from there."""
PARALLEL = 4
LOOK_AGAIN_S = 600.0
"""After this, what was whole is looked at again: somebody may have emptied the folder."""


class Filling:
    """The loop of one scheduler: call `step` again and again, within `LIMIT_S` each.

    `own` is the folder behind `blobs`; `state` only reads.
    """

    def __init__(
        self, blobs: MajorityBlobs, own: Blobs, state: State, clock: Clock, metrics: Metrics
    ) -> None:
        self._blobs = blobs
        self._own = own
        self._state = state
        self._clock = clock
        self._whole: set[str] = set()
        self._look_again_s = clock.now() + LOOK_AGAIN_S
        self._told = ""
        text = "Blobs that versions need and this scheduler's folder lacked after its last look."
        self._lacking = metrics.gauge("lacking", "blobs", text)
        text = "Blobs that were copied from other schedulers because versions need them."
        self._filled = metrics.counter("filled", "blobs", text)

    async def step(self) -> None:
        """Copy what is lacking; what no one has is told once and tried again."""
        try:
            roots = roots_of((await self._state.read()).values())
        except (Unavailable, Refused) as error:
            self._tell(0, str(error))
            return
        if self._clock.now() >= self._look_again_s:
            self._whole.clear()
            self._look_again_s = self._clock.now() + LOOK_AGAIN_S
        self._whole &= roots.bundles | roots.others
        await self._fill(roots)

    async def _fill(self, roots: Roots) -> None:
        turn = _Turn(self._blobs, self._own)
        others = roots.others - self._whole
        if not await turn.fill(others):
            self._whole |= others
        for bundle in sorted(roots.bundles - self._whole):
            if not await turn.fill_bundle(bundle):
                self._whole.add(bundle)
        self._lacking.set(turn.lacking)
        self._filled.inc(turn.filled)
        if turn.filled:
            log.info("blobs filled", extra={"count": turn.filled})
        self._tell(turn.lacking, turn.why)

    def _tell(self, lacking: int, why: str) -> None:
        if why and why != self._told:
            log.warning("blobs lacking", extra={"count": lacking, "why": why})
        self._told = why


class _Turn:
    """One look: how many blobs it brought, how many are lacking still, and why."""

    def __init__(self, blobs: MajorityBlobs, own: Blobs) -> None:
        self._blobs = blobs
        self._own = own
        self.filled = self.lacking = 0
        self.why = ""

    async def fill_bundle(self, bundle: str) -> int:
        """Copy a manifest and its files; return how many are lacking still, as far as known."""
        if await self.fill({bundle}):
            return 1
        try:
            manifest = await manifest_of(self._own, bundle)
        except (ConfigError, Refused, Unavailable) as error:
            return self._note(error)
        return await self.fill({file.digest for file in manifest.files})

    async def fill(self, digests: Collection[str]) -> int:
        """Copy what is lacking of these; return how many are lacking still."""
        ordered = sorted(digests)
        try:
            absent: list[str] = []
            for start in range(0, len(ordered), PAGE_DIGESTS):
                page = ordered[start : start + PAGE_DIGESTS]
                there = await self._own.has(page)
                absent += [digest for digest in page if digest not in there]
        except (Unavailable, Refused) as error:
            return self._note(error)
        before, todo = self.lacking, deque(absent)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(PARALLEL, len(todo))):
                group.create_task(self._worker(todo))
        return self.lacking - before

    async def _worker(self, todo: "deque[str]") -> None:
        while todo:
            try:
                await self._blobs.bring(todo.popleft())
            except DiskFull as error:  # the next ones would not fit either
                self._note(error)
                self.lacking += len(todo)
                todo.clear()
            except (Unavailable, Refused) as error:
                self._note(error)
            else:
                self.filled += 1

    def _note(self, error: SeraiError) -> int:
        self.lacking += 1
        self.why = self.why or str(error)
        return 1
