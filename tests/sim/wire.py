"""What lies between a scheduler's process and its ports: it can be cut before or after any call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from serai.engine import USUAL_DRAIN_S, EngineNode, LogLine, LogQuery
from serai.errors import Refused, Unavailable
from serai.memory import MemoryStore
from serai.model import Replica, Version
from serai.store import Entry, Snapshot, Write
from tests.sim.cluster import SimEngine, job_of

T = TypeVar("T")

Call = Callable[[], Awaitable[object]]


class Fate(StrEnum):
    """What becomes of a process at the cut.

    Killed: it does nothing more. Late: it is killed, and what it has sent arrives some time later.
    Paused: it goes on some time later, and knows nothing of it.
    """

    KILLED = "killed"
    LATE = "late"
    PAUSED = "paused"


class Wire:
    """Counts the moments before and after each call of one process, and holds it at one of them.

    `obeyed` gets the epoch of every order that is carried out.
    """

    def __init__(self, obeyed: list[int]) -> None:
        self.obeyed = obeyed
        self.moments = 0
        self.writes: list[int] = []
        """The moments right before a call that changes something."""
        self.cut = asyncio.Event()
        self.pending: Call | None = None
        """What was sent at the cut and has not arrived."""
        self._cut_at: int | None = None
        self._going_on = asyncio.Event()

    def cut_at(self, moment: int | None) -> None:
        """Count from here on, and hold the process at that moment."""
        self.moments, self.writes, self._cut_at = 0, [], moment

    def go_on(self) -> None:
        """Let a process that is held go on."""
        self._going_on.set()

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that changes nothing."""
        await self._moment(None)
        answer = await call()
        await self._moment(None)
        return answer

    async def order(
        self,
        epoch: int,
        call: Callable[[], Awaitable[T]],
        allowed: Callable[[], bool] = lambda: True,
    ) -> T:
        """Make a call that changes something; `allowed` is asked right before it is sent."""
        self.writes.append(self.moments + 1)
        await self._moment(call)
        if not allowed():
            raise Refused("the lease is over: somebody else may lead", "fenced")
        answer = await call()
        self.obeyed.append(epoch)
        await self._moment(None)
        return answer

    async def _moment(self, pending: Call | None) -> None:
        if not self.cut.is_set():
            self.moments += 1
            if self.moments != self._cut_at:
                return
            self.pending = pending
            self.cut.set()
        await self._going_on.wait()

    async def run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None] | None":
        """Do some of the process's work; return it where it is held at the cut, else None."""
        task = asyncio.ensure_future(work)
        cut = asyncio.ensure_future(self.cut.wait())
        await asyncio.wait((task, cut), return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        if not task.done():
            return task
        task.result()
        return None


class WiredStore:
    """The store as one process reaches it; an epoch is raised by whoever has the lease."""

    def __init__(self, wire: Wire, store: MemoryStore, leading: Callable[[], bool]) -> None:
        self._wire = wire
        self._store = store
        self._leading = leading

    async def get(self, key: str) -> Entry | None:
        return await self._wire.ask(lambda: self._store.get(key))

    async def scan(self, prefix: str) -> Snapshot:
        return await self._wire.ask(lambda: self._store.scan(prefix))

    async def mark(self) -> str:
        return await self._wire.ask(self._store.mark)

    async def watch(self, prefix: str, after: int, wait_s: float) -> Snapshot:
        return await self._wire.ask(lambda: self._store.watch(prefix, after, wait_s))

    async def commit(self, writes: Sequence[Write], epoch: int) -> int:
        return await self._wire.order(epoch, lambda: self._store.commit(writes, epoch))

    async def raise_epoch(self) -> int:
        async def raise_it() -> int:
            if not self._leading():
                raise Refused("the lease is lost: somebody else may lead", "fenced")
            return await self._store.raise_epoch()

        highest = self._wire.obeyed[-1] if self._wire.obeyed else 0
        return await self._wire.order(highest, raise_it)


class WiredEngine:
    """The engine as one process reaches it, with the fences of the real one.

    `leading` is asked right before a write, and a version's job must not have changed since the
    order was given.
    """

    def __init__(self, wire: Wire, engine: SimEngine, leading: Callable[[], bool]) -> None:
        self._wire = wire
        self._engine = engine
        self._leading = leading

    async def observe(self) -> Sequence[Replica]:
        return await self._wire.ask(self._engine.observe)

    async def nodes(self) -> Sequence[EngineNode]:
        return await self._wire.ask(self._engine.nodes)

    async def start(
        self,
        replicas: Sequence[str],
        version: Version,
        epoch: int,
        drain_s: float = USUAL_DRAIN_S,
    ) -> None:
        await self._change(
            replicas, epoch, lambda: self._engine.start(replicas, version, epoch, drain_s)
        )

    async def grant(self, version: Version, drain_s: float, epoch: int) -> None:
        any_replica = f"{version.api}.{version.name}.1"
        await self._change(
            [any_replica], epoch, lambda: self._engine.grant(version, drain_s, epoch)
        )

    async def stop(self, replicas: Sequence[str], grace_s: float, epoch: int) -> None:
        await self._change(replicas, epoch, lambda: self._engine.stop(replicas, grace_s, epoch))

    async def _change(
        self, replicas: Sequence[str], epoch: int, call: Callable[[], Awaitable[None]]
    ) -> None:
        changes = self._engine.changes
        before = {job: changes[job] for job in map(job_of, replicas)}

        async def guarded() -> None:
            if any(changes[job] != index for job, index in before.items()):
                raise Unavailable("the job has changed meanwhile")
            await call()

        await self._wire.order(epoch, guarded, self._leading)

    async def take(self, node: str, takes: bool, epoch: int) -> None:
        await self._wire.order(epoch, lambda: self._engine.take(node, takes, epoch), self._leading)

    async def forget(self, api: str, epoch: int) -> None:
        await self._wire.order(epoch, lambda: self._engine.forget(api, epoch), self._leading)

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        return self._engine.logs(query)
