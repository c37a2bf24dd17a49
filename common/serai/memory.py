"""Ports in process: the registry of the embedded mode, and the store of simulations and tests."""

import asyncio
from collections.abc import Sequence

from serai.clock import Clock
from serai.errors import Refused, Unavailable
from serai.lease import NEVER, LeaseSettings
from serai.model import Server
from serai.registry import Listing
from serai.store import Entry, Snapshot, Write, check_sizes

LEASE_TURN_S = 0.02


class Changes:
    """A revision that tasks can wait on."""

    def __init__(self) -> None:
        self._revision = 0
        self._changed = asyncio.Event()

    @property
    def revision(self) -> int:
        return self._revision

    def raise_to(self, revision: int) -> None:
        """Move on and wake everybody who waits."""
        self._revision = revision
        self._changed.set()
        self._changed = asyncio.Event()

    async def beyond(self, after: int, wait_s: float) -> None:
        """Return when the revision has passed `after`, or after `wait_s` seconds."""
        try:
            async with asyncio.timeout(wait_s):
                while self._revision <= after:
                    await self._changed.wait()
        except TimeoutError:
            return


class MemoryRegistry:
    """Both ends of the registry on one machine."""

    def __init__(self) -> None:
        self._servers: tuple[Server, ...] = ()
        self._changes = Changes()

    def publish(self, servers: Sequence[Server]) -> None:
        """Replace the list; nobody is woken when nothing changed."""
        ordered = tuple(sorted(servers, key=lambda server: server.id))
        if ordered != self._servers or self._changes.revision == 0:
            self._servers = ordered
            self._changes.raise_to(self._changes.revision + 1)

    async def watch(self, after: int, wait_s: float) -> Listing:
        await self._changes.beyond(after, wait_s)
        return Listing(revision=self._changes.revision, servers=self._servers)


def check_writes(
    writes: Sequence[Write], revisions: dict[str, int], epoch: int, highest_epoch: int
) -> None:
    """Raise Refused when a commit breaks a rule that every store has in common."""
    if epoch < highest_epoch:
        raise Refused(f"epoch {epoch} is over: {highest_epoch} has been seen", "fenced")
    check_sizes(writes)
    for write in writes:
        found = revisions.get(write.key, 0)
        if write.expect is not None and found != write.expect:
            raise Refused(
                f"{write.key} was changed by somebody else meanwhile "
                f"(at revision {found}, expected {write.expect}); read it again",
                "conflict",
            )


class MemoryStore:
    """A store that forgets everything with its process."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._deleted: dict[str, int] = {}
        self._changes = Changes()
        self._epoch = 0

    async def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    async def scan(self, prefix: str) -> Snapshot:
        found = sorted((e for k, e in self._entries.items() if k.startswith(prefix)), key=_key)
        return Snapshot(revision=self._changes.revision, entries=tuple(found))

    async def mark(self) -> str:
        return str(self._changes.revision)

    async def watch(self, prefix: str, after: int, wait_s: float) -> Snapshot:
        try:
            async with asyncio.timeout(wait_s):
                while self._last_change(prefix) <= after:
                    await self._changes.beyond(self._changes.revision, wait_s)
        except TimeoutError:
            pass
        return await self.scan(prefix)

    def _last_change(self, prefix: str) -> int:
        changed = [e.revision for k, e in self._entries.items() if k.startswith(prefix)]
        deleted = [revision for k, revision in self._deleted.items() if k.startswith(prefix)]
        return max(changed + deleted, default=0)

    async def commit(self, writes: Sequence[Write], epoch: int) -> int:
        found = {write.key: self._entries.get(write.key) for write in writes}
        revisions = {key: entry.revision for key, entry in found.items() if entry is not None}
        check_writes(writes, revisions, epoch, self._epoch)
        self._epoch = epoch
        revision = self._changes.revision + 1
        for write in writes:
            if write.value is None:
                self._entries.pop(write.key, None)
                self._deleted[write.key] = revision
            else:
                self._entries[write.key] = Entry(
                    key=write.key, value=write.value, revision=revision
                )
        self._changes.raise_to(revision)
        return revision

    async def raise_epoch(self) -> int:
        self._epoch += 1
        return self._epoch


class LeaseBoard:
    """Who has the lease that several `MemoryLease`s share, and until when nobody else can.

    `away` names those who do not reach it: a fault for simulations and tests.
    """

    def __init__(self) -> None:
        self.holder: object = None
        self.kept_until_s = 0.0
        self.away: set[object] = set()


class MemoryLease:
    """A lease among the schedulers of one process, on a clock that may be a simulated one."""

    def __init__(self, board: LeaseBoard, clock: Clock, settings: LeaseSettings) -> None:
        self._board = board
        self._clock = clock
        self._settings = settings
        self._safe_until_s = NEVER

    @property
    def held_until_s(self) -> float:
        return self._safe_until_s

    @property
    def held(self) -> bool:
        return self._clock.now() < self._safe_until_s

    async def acquire(self, wait_s: float) -> bool:
        until_s = self._clock.now() + wait_s
        while not self._take():
            left_s = until_s - self._clock.now()
            if left_s <= 0:
                return False
            await self._clock.sleep(min(LEASE_TURN_S, left_s))
        return True

    def _reach(self) -> None:
        if self in self._board.away:
            raise Unavailable("the lease cannot be reached")

    def _take(self) -> bool:
        self._reach()
        now_s = self._clock.now()
        free = self._board.holder in (None, self) or now_s >= self._board.kept_until_s
        if free:
            self._board.holder = self
            self._prolong()
        return free

    def _prolong(self) -> None:
        now_s = self._clock.now()
        self._safe_until_s = self._settings.safe_until_s(now_s)
        self._board.kept_until_s = now_s + self._settings.ttl_s + self._settings.lock_delay_s

    async def renew(self) -> None:
        self._reach()
        if not self.held or self._board.holder is not self:
            self._safe_until_s = NEVER
            raise Refused("the lease is over", "lease_lost")
        self._prolong()

    async def release(self) -> None:
        self._safe_until_s = NEVER
        if self._board.holder is self and self not in self._board.away:
            self._board.holder = None


def _key(entry: Entry) -> str:
    return entry.key
