"""What was decided, kept for whoever asks why: a SQLite file of this process.

Decisions that changed something are kept for a week, the others for a day. A disk that is slow or
full costs the past, never a decision: what is to be kept waits in a bounded list.
"""

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from serai import wire
from serai.decisions import ScaleDecision
from serai.errors import ConfigError, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

DEADLINE_S = 10.0
CHANGES_KEPT_S = 7 * 86_400.0
QUIET_KEPT_S = 86_400.0
MOST_WAITING = 20_000
MOST_TOLD = 1_000
FLUSH_S = 2.0
PRUNE_S = 600.0
IN_MEMORY = Path(":memory:")

SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    api TEXT NOT NULL, at_s REAL NOT NULL, changed INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS decisions_by_api ON decisions (api, at_s);
CREATE INDEX IF NOT EXISTS decisions_by_age ON decisions (changed, at_s);
"""


class Ledger:
    """Kept decisions, for an `async with` block; SQLite runs on one thread of its own."""

    def __init__(self, path: Path = IN_MEMORY) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._connection: sqlite3.Connection | None = None
        self._waiting: deque[ScaleDecision] = deque(maxlen=MOST_WAITING)
        self._pruned_at_s: float | None = None

    def add(self, decision: ScaleDecision) -> None:
        """Keep a decision; of too many that wait to be written the oldest goes."""
        self._waiting.append(decision)

    async def flush(self) -> None:
        """Write what waits; a file that cannot be written is told of and tried again."""
        batch, self._waiting = self._waiting, deque(maxlen=MOST_WAITING)
        if not batch:
            return
        try:
            await self._run(lambda: self._write(batch))
        except Unavailable as error:
            log.warning("decisions not kept yet", extra={"why": str(error)})
            self._waiting = deque([*batch, *self._waiting], maxlen=MOST_WAITING)

    async def since(
        self, api: str, since_s: float, until_s: float, most: int = MOST_TOLD
    ) -> tuple[ScaleDecision, ...]:
        """Return the decisions about an API between two times (wall clock), the newest first."""
        await self.flush()
        where = "api = ? AND at_s >= ? AND at_s <= ? ORDER BY at_s DESC LIMIT ?"
        arguments = (api, since_s, until_s, min(most, MOST_TOLD))
        return await self._run(lambda: self._select(where, arguments))

    async def at(self, api: str, at_s: float) -> ScaleDecision | None:
        """Return the decision that stood at a time, None where none is kept of it."""
        found = await self.since(api, 0.0, at_s, 1)
        return found[0] if found else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what waits and close the file."""
        await self.flush()
        if self._connection is not None:
            await self._run(self._connection.close)
        self._thread.shutdown(wait=False)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(SCHEMA)
            self._connection = connection
        return self._connection

    def _write(self, batch: Sequence[ScaleDecision]) -> None:
        rows = [(one.api, one.at_s, one.before != one.wanted, wire.encode(one)) for one in batch]
        database = self._open()
        database.execute("BEGIN")
        try:
            database.executemany("INSERT INTO decisions VALUES (?, ?, ?, ?)", rows)
            self._prune(database, batch[-1].at_s)
            database.execute("COMMIT")
        finally:
            if database.in_transaction:
                database.execute("ROLLBACK")

    def _prune(self, database: sqlite3.Connection, now_s: float) -> None:
        if self._pruned_at_s is not None and 0.0 <= now_s - self._pruned_at_s < PRUNE_S:
            return
        self._pruned_at_s = now_s
        delete = "DELETE FROM decisions WHERE changed = ? AND at_s < ?"
        database.execute(delete, (True, now_s - CHANGES_KEPT_S))
        database.execute(delete, (False, now_s - QUIET_KEPT_S))

    def _select(self, where: str, arguments: Sequence[object]) -> tuple[ScaleDecision, ...]:
        rows = self._open().execute(f"SELECT body FROM decisions WHERE {where}", arguments)
        found = []
        for (body,) in rows:
            try:
                found.append(wire.decode(body, ScaleDecision))
            except ConfigError as error:  # of another release, or damaged
                log.warning("decision left out", extra={"why": str(error)})
        return tuple(found)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise Unavailable(f"the ledger {self._path} failed: {error}") from error
        except TimeoutError as error:
            raise Unavailable(f"the ledger {self._path} took over {DEADLINE_S:g} s") from error
