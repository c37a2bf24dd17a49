"""What the engine remembers of allocations, for as long as Nomad lists them."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from serai.clock import Clock
from serai.model import Replica, ReplicaState
from serai.tasks import cancelled
from serai_scheduler.nomad.client import NomadClient
from serai_scheduler.nomad.endings import in_full
from serai_scheduler.nomad.names import JobName
from serai_scheduler.nomad.reading import began_at_s, still_ready, waited_in_vain
from serai_scheduler.nomad.snapshot import Seen
from serai_scheduler.nomad.streams import STREAMS, Stream, tail_of
from serai_scheduler.nomad.tasks import MAIN_TASK, WAITING_TASK

TAIL_LINES = 20
TAILS_AT_ONCE = 16
TAILS_LIMIT_S = 1.5
"""How long a look waits for what it has begun to read."""
TELLING_LIMIT_S = 15.0
"""How long nobody judges what has failed without its last lines; they may come later still."""


def streams_of(
    client: NomadClient, replica: str, name: JobName, allocation: Mapping[str, Any]
) -> tuple[Stream, ...]:
    """Return the streams of an allocation's lines: those of the task that it failed in."""
    began_s = began_at_s(allocation)
    task = WAITING_TASK if waited_in_vain(allocation) else MAIN_TASK
    return tuple(
        Stream(replica, name.version, allocation["ID"], kind, began_s, client, task)
        for kind in STREAMS
    )


@dataclass(frozen=True)
class _Ready:
    """Since when something is ready, and how often it had been started again by then."""

    at_s: float
    restarts: int


class Memory:
    """By allocation: since when it is ready, its last lines, whether it is forgotten."""

    def __init__(self, client: NomadClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._ready: dict[str, _Ready] = {}
        self._tails: dict[str, tuple[str, ...]] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._listed: Sequence[Mapping[str, Any]] = ()
        self._failed_at_s: dict[str, float] = {}
        """When what is unread was first seen to have failed."""
        self.forgotten: set[str] = set()

    async def aclose(self) -> None:
        """Read nothing any more."""
        await cancelled(*self._reading.values())
        self._reading.clear()  # one that had not begun yet did not take itself out

    def keep_only(self, allocations: Sequence[Mapping[str, Any]]) -> None:
        """Let go of what Nomad does not list any more; nothing to do for the list of before."""
        if allocations is self._listed:
            return
        self._listed = allocations
        ids = {one["ID"] for one in allocations}
        self._ready = {one: ready for one, ready in self._ready.items() if one in ids}
        self._tails = {one: tail for one, tail in self._tails.items() if one in ids}
        self._failed_at_s = {one: at for one, at in self._failed_at_s.items() if one in ids}
        self.forgotten &= ids

    def forget(self, allocations: Collection[str]) -> None:
        """Show these, which have ended, no more."""
        self.forgotten |= set(allocations)

    async def completed(self, replicas: Sequence[Seen]) -> tuple[Replica, ...]:
        """Return the replicas with what is remembered of each; reads the logs of failed ones."""
        await self._read_tails(replicas)
        return tuple(self._completed(seen) for seen in replicas)

    def _completed(self, seen: Seen) -> Replica:
        replica, allocation = seen.replica, seen.allocation
        if allocation is None:
            return replica
        name = allocation["ID"]
        failed = replica.state is ReplicaState.FAILED
        tail = self._tails.get(name, ()) if failed else ()
        began = self._ready.get(name)
        if began is not None and began.restarts != replica.restarts:  # it has ended meanwhile
            del self._ready[name]
        if replica.state is ReplicaState.READY:
            self._ready.setdefault(name, _Ready(self._clock.wall(), replica.restarts))
        ready = self._ready.get(name)
        if ready is not None:
            replica = still_ready(replica)
        return msgspec.structs.replace(
            replica,
            ready_at_s=ready.at_s if ready is not None else None,
            reason=in_full(replica, allocation, tail) if failed else replica.reason,
            log_tail=tail,
            telling=failed and self._is_telling(name),
        )

    async def _read_tails(self, replicas: Sequence[Seen]) -> None:
        """Begin to read the last lines of what has failed, the latest first, and wait a moment.

        They are read once for each allocation, and kept when they come, however late that is.
        """
        now_s = self._clock.now()
        unread = [
            (seen.replica, seen.allocation)
            for seen in replicas
            if seen.replica.state is ReplicaState.FAILED
            and seen.allocation is not None
            and seen.allocation["ID"] not in self._tails
        ]
        unread.sort(key=lambda one: one[0].ended_at_s or 0.0, reverse=True)
        for _, allocation in unread:
            self._failed_at_s.setdefault(allocation["ID"], now_s)
        unbegun = [one for one in unread if one[1]["ID"] not in self._reading]
        begun = [self._begin(*one) for one in unbegun[: TAILS_AT_ONCE - len(self._reading)]]
        if begun:
            await asyncio.wait(begun, timeout=TAILS_LIMIT_S)

    def _begin(self, replica: Replica, allocation: Mapping[str, Any]) -> asyncio.Task[None]:
        begun = asyncio.create_task(self._read_tail(replica, allocation))
        self._reading[allocation["ID"]] = begun
        return begun

    async def _read_tail(self, replica: Replica, allocation: Mapping[str, Any]) -> None:
        name = JobName(api=replica.api, version=replica.version)
        streams = streams_of(self._client, replica.id, name, allocation)
        tail: tuple[str, ...] = ()
        try:
            tail = await self._client.in_thread(lambda: tail_of(streams, TAIL_LINES))
        finally:
            self._tails[allocation["ID"]] = tail
            del self._reading[allocation["ID"]]

    def _is_telling(self, name: str) -> bool:
        """Say whether more is soon to be known of an allocation that failed."""
        waited_s = self._clock.now() - self._failed_at_s.get(name, float("-inf"))
        return name not in self._tails and waited_s < TELLING_LIMIT_S
