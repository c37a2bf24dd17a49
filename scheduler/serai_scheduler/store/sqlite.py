"""The store on one machine: a SQLite file, written by one process at a time."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from serai.errors import ConfigError, Unavailable
from serai.memory import Changes, check_writes
from serai.store import Entry, Snapshot, Write

T = TypeVar("T")

DEADLINE_S = 10.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB, revision INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counters VALUES ('revision', 0), ('epoch', 0), ('format', 1);
"""
# A deleted key stays as a row without a value, so that watchers see its revision rise.


class SqliteStore:
    """Every call runs on one thread of its own; SQLite's errors become Unavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._changes = Changes()
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open or make the file; raise ConfigError when that cannot be."""
        try:
            self._connection = await self._run(lambda: self._connect())
        except Unavailable as error:
            why = error.__cause__ or error
            raise ConfigError(
                f"cannot open the store {self._path}: {why}; make room or mend its permissions, "
                "or, when it is damaged, put back a copy or move it away and deploy again"
            ) from error
        self._changes.raise_to(await self._run(lambda: self._counter("revision")))

    async def close(self) -> None:
        """Close the file; nothing may be called afterwards."""
        if self._connection is not None:
            await self._run(self._connection.close)
        self._thread.shutdown(wait=False)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(SCHEMA)
        return connection

    @property
    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None, "open() comes first"
        return self._connection

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise Unavailable(f"the store {self._path} failed: {error}") from error
        except TimeoutError as error:
            raise Unavailable(f"the store {self._path} took over {DEADLINE_S:g} s") from error

    def _counter(self, name: str) -> int:
        row = self._db.execute("SELECT number FROM counters WHERE name = ?", (name,)).fetchone()
        return int(row[0])

    async def get(self, key: str) -> Entry | None:
        found = await self._run(lambda: self._select("key = ?", (key,)))
        return found[0] if found else None

    async def scan(self, prefix: str) -> Snapshot:
        return await self._run(lambda: self._snapshot(prefix))

    async def mark(self) -> str:
        return str(await self._run(lambda: self._counter("revision")))

    def _snapshot(self, prefix: str) -> Snapshot:
        entries = self._select("key >= ? AND key < ?", (prefix, prefix + "\U0010ffff"))
        return Snapshot(revision=self._counter("revision"), entries=tuple(entries))

    def _select(self, where: str, arguments: tuple[str, ...]) -> list[Entry]:
        rows = self._db.execute(
            f"SELECT key, value, revision FROM entries WHERE value IS NOT NULL AND {where} "
            "ORDER BY key",
            arguments,
        )
        return [Entry(key=key, value=value, revision=revision) for key, value, revision in rows]

    async def watch(self, prefix: str, after: int, wait_s: float) -> Snapshot:
        try:
            async with asyncio.timeout(wait_s):
                while await self._last_change(prefix) <= after:
                    await self._changes.beyond(self._changes.revision, wait_s)
        except TimeoutError:
            pass
        return await self.scan(prefix)

    async def _last_change(self, prefix: str) -> int:
        query = "SELECT max(revision) FROM entries WHERE key >= ? AND key < ?"
        arguments = (prefix, prefix + "\U0010ffff")
        row = await self._run(lambda: self._db.execute(query, arguments).fetchone())
        return int(row[0] or 0)

    async def commit(self, writes: Sequence[Write], epoch: int) -> int:
        revision = await self._run(lambda: self._transaction(lambda: self._write(writes, epoch)))
        self._changes.raise_to(revision)
        return revision

    def _transaction(self, work: Callable[[], int]) -> int:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            result = work()
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        return result

    def _write(self, writes: Sequence[Write], epoch: int) -> int:
        revisions = {
            entry.key: entry.revision
            for write in writes
            for entry in self._select("key = ?", (write.key,))
        }
        check_writes(writes, revisions, epoch, self._counter("epoch"))
        revision = self._counter("revision") + 1
        self._db.execute("UPDATE counters SET number = ? WHERE name = 'revision'", (revision,))
        self._db.execute("UPDATE counters SET number = ? WHERE name = 'epoch'", (epoch,))
        self._db.executemany(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)",
            [(write.key, write.value, revision) for write in writes],
        )
        return revision

    async def raise_epoch(self) -> int:
        return await self._run(lambda: self._transaction(self._raise_epoch))

    def _raise_epoch(self) -> int:
        self._db.execute("UPDATE counters SET number = number + 1 WHERE name = 'epoch'")
        return self._counter("epoch")
