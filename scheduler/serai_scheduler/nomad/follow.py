"""Follows Nomad: jobs, allocations and nodes in one snapshot, by three blocking queries."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from serai.clock import Clock, backoff
from serai.errors import Refused, Unavailable, ungrouped
from serai_scheduler.doctor import Program, Seen, too_old
from serai_scheduler.nomad.client import Listed, NomadClient
from serai_scheduler.nomad.names import number_of, parse_id
from serai_scheduler.nomad.reading import has_left
from serai_scheduler.nomad.snapshot import Held, Snapshot, held
from serai_scheduler.nomad.text import NANOSECONDS

log = logging.getLogger(__name__)

WAIT_S = 30.0
LEAST_TURN_S = 0.1
"""Between two answers of one list: Nomad wakes for every allocation of the cluster."""
ASK_PERIOD_S = 1.0
ASK_LIMIT_S = 3.0
SILENT_LIMIT_S = 5.0
"""What is known is too old when Nomad has not answered for so long."""
FRESH_LIMIT_S = 2.5
LONGEST_PAUSE_S = 2.0
BODIES_AT_ONCE = 4
VERSION_PERIOD_S = 10.0
"""How often the servers are asked for their versions: one that joins may be an old one."""


class Follower:
    """Keeps the snapshot; keep `run` going. `changed` is called whenever it is another one.

    A list waits for changes for half a minute, so a small question every second tells whether
    Nomad is there at all. With one failure all lists are read anew: what comes back may have lost
    its data. A Nomad that is too old is not followed: whoever asks for its state is told so.
    """

    def __init__(
        self, client: NomadClient, clock: Clock, prefix: str, changed: Callable[[], None]
    ) -> None:
        self._client = client
        self._clock = clock
        self._prefix = prefix
        self._changed = changed
        self._snapshot = Snapshot()
        self._lists: dict[str, int] = {}
        """The index of each list that has been read since Nomad was last away."""
        self._written = 0
        self._answered_at_s = float("-inf")
        self._why = "it has not been asked yet"
        self._moved = asyncio.Event()

    def wrote(self, index: int) -> None:
        """Note the index of an own write: no older snapshot is given from now on."""
        self._written = max(self._written, index)

    async def snapshot(self) -> Snapshot:
        """Return the present snapshot; Unavailable when none is known that is young enough."""
        try:
            async with asyncio.timeout(FRESH_LIMIT_S):
                while not self._fresh:
                    await self._moved.wait()
        except TimeoutError:
            raise Unavailable(f"Nomad has not told its present state: {self._why}") from None
        silent_s = self._clock.now() - self._answered_at_s
        if silent_s > SILENT_LIMIT_S:
            raise Unavailable(f"Nomad has not answered for {silent_s:.0f} s: {self._why}")
        return self._snapshot

    @property
    def latest(self) -> Snapshot:
        """Return what is known, however old; nothing before the first answers."""
        return self._snapshot

    @property
    def _fresh(self) -> bool:
        return len(self._lists) == 3 and self._lists["jobs"] >= self._written

    async def run(self) -> None:
        """Follow until cancelled."""
        pauses = backoff(Random(self._prefix), first_s=0.2, cap_s=LONGEST_PAUSE_S)
        while True:
            try:
                await self._client.answers(ASK_LIMIT_S)
                await self._check_versions()
                self._answered()
                with ungrouped(Refused, Unavailable):
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._ask())
                        group.create_task(self._watch_versions())
                        for one in (self._jobs, self._allocations, self._nodes):
                            group.create_task(one())
            except (Unavailable, Refused) as error:
                if str(error) != self._why:
                    log.warning("nomad is not followed", extra={"why": str(error)})
                self._why = str(error)
            if len(self._lists) == 3:  # it was followed until now
                pauses = backoff(Random(self._prefix), first_s=0.2, cap_s=LONGEST_PAUSE_S)
            self._lists.clear()
            await self._clock.sleep(next(pauses))

    def _answered(self) -> None:
        self._answered_at_s = self._clock.now()

    async def _ask(self) -> None:
        while True:
            await self._clock.sleep(ASK_PERIOD_S)
            await self._client.answers(ASK_LIMIT_S)
            self._answered()

    async def _watch_versions(self) -> None:
        while True:
            await self._clock.sleep(VERSION_PERIOD_S)
            await self._check_versions()

    async def _check_versions(self) -> None:
        """Raise Refused for servers that are too old; what does not tell its version may do."""
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                servers = await self._client.servers()
        except (Refused, Unavailable, TimeoutError):
            return
        programs = tuple(Program(name=name, version=version) for name, version in servers)
        if why := too_old(Seen(nomad_servers=programs)):
            raise Refused(why, "too_old")

    # The lists -----------------------------------------------------------------------------------

    async def _jobs(self) -> None:
        index = 0
        while True:
            began_s, written = self._clock.now(), self._written
            listed = await self._client.jobs(f"{self._prefix}-", index, WAIT_S)
            jobs = await self._bodies(listed.items)
            if listed.index < self._lists.get("jobs", 0):
                # Overtaken by a list that was read for the allocations.
                index = await self._next(began_s, index, listed)
                continue
            if index == 0 and written == self._written > listed.index:
                log.warning("nomad has lost its data", extra={"index": listed.index})
                self._written = 0
            self._note("jobs", listed, replace(self._snapshot, jobs=jobs))
            index = await self._next(began_s, index, listed)

    async def _allocations(self) -> None:
        index = 0
        while True:
            began_s = self._clock.now()
            listed = await self._client.allocations(f"{self._prefix}-", index, WAIT_S)
            known = {_state(one): one for one in self._snapshot.allocations}
            items = tuple(known.get(_state(one), one) for one in listed.items)
            if self._surprises([one for one in listed.items if _state(one) not in known]):
                await self._read_jobs()
            self._note("allocations", listed, replace(self._snapshot, allocations=items))
            index = await self._next(began_s, index, listed)

    def _surprises(self, allocations: Sequence[Mapping[str, Any]]) -> bool:
        """Say whether one has to leave whose job, as it was last read, is to run it.

        Either Nomad moves it or the job has changed: a newer list of jobs tells which.
        """
        jobs = self._snapshot.jobs
        return any(
            has_left(one) and number_of(one["TaskGroup"]) in jobs[one["JobID"]].numbers
            for one in allocations
            if one["JobID"] in jobs
        )

    async def _read_jobs(self) -> None:
        listed = await self._client.jobs(f"{self._prefix}-")
        jobs = await self._bodies(listed.items)
        if listed.index >= self._lists.get("jobs", 0):
            self._snapshot = replace(self._snapshot, jobs=jobs)
            self._lists["jobs"] = listed.index

    async def _nodes(self) -> None:
        index = 0
        while True:
            began_s = self._clock.now()
            listed = await self._client.nodes(index, WAIT_S)
            self._note("nodes", listed, replace(self._snapshot, nodes=listed.items))
            index = await self._next(began_s, index, listed)

    async def _next(self, began_s: float, index: int, listed: Listed) -> int:
        """Return the index to wait from, not sooner than the turn may end.

        Raises Unavailable when it went back, so that all is read anew.
        """
        self._answered()
        if listed.index < index:
            raise Unavailable("Nomad's index went back: it holds other data than before")
        left_s = began_s + LEAST_TURN_S - self._clock.now()
        if left_s > 0:
            await self._clock.sleep(left_s)
        return listed.index

    def _note(self, name: str, listed: Listed, snapshot: Snapshot) -> None:
        changed = snapshot != self._snapshot or name not in self._lists
        self._snapshot = snapshot
        self._lists[name] = listed.index
        self._moved.set()
        self._moved = asyncio.Event()
        if len(self._lists) == 3:
            self._why = ""
            if changed:
                self._changed()

    async def _bodies(self, stubs: Sequence[Mapping[str, Any]]) -> dict[str, Held]:
        """Return our jobs whole; a body is read only when its index has moved."""
        jobs: dict[str, Held | None] = {}
        for stub in stubs:
            if parse_id(self._prefix, stub["ID"]) is not None:
                known = self._snapshot.jobs.get(stub["ID"])
                told = (stub["JobModifyIndex"], stub["SubmitTime"] / NANOSECONDS)
                same = known is not None and (known.index, known.asked_at_s) == told
                jobs[stub["ID"]] = known if same else None
        unread = [job for job, known in jobs.items() if known is None]
        for first in range(0, len(unread), BODIES_AT_ONCE):
            part = unread[first : first + BODIES_AT_ONCE]
            jobs |= dict(zip(part, await asyncio.gather(*map(self._body, part)), strict=True))
        return {job: found for job, found in jobs.items() if found is not None}

    async def _body(self, job: str) -> Held | None:
        name, body = parse_id(self._prefix, job), await self._client.job(job)
        return held(body, name) if body is not None and name is not None else None


def _state(allocation: Mapping[str, Any]) -> tuple[str, int]:
    """Return what is another with each change of an allocation."""
    return allocation["ID"], allocation["ModifyIndex"]
