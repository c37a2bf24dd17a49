"""What was decided and asked for, kept for whoever asks why: a SQLite file of this process.

Decisions that changed something are kept for a week, the others for a day; traffic by ten seconds
for a week, and no more than some rows of it. A disk that is slow or full costs the past, never a
decision: what is to be kept waits in bounded lists.
"""

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

from serai import wire
from serai.decisions import ScaleDecision
from serai.errors import ConfigError, Unavailable
from serai.recorded import TRAFFIC_KEPT_S, RecordedCount, RecordedTraffic
from serai.report import DEMAND_SLOT_S, DemandSlot, demand_slot

log = logging.getLogger(__name__)

T = TypeVar("T")

DEADLINE_S = 10.0
CHANGES_KEPT_S = 7 * 86_400.0
QUIET_KEPT_S = 86_400.0
MOST_TRAFFIC_ROWS = 3_000_000
"""Beyond that the oldest go: some 200 MiB, a day of 350 APIs that are never idle."""
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
CREATE TABLE IF NOT EXISTS traffic (
    api TEXT NOT NULL, slot INTEGER NOT NULL, arrivals INTEGER NOT NULL,
    completions INTEGER NOT NULL, busy_s REAL NOT NULL, peak INTEGER NOT NULL,
    PRIMARY KEY (api, slot)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS traffic_by_age ON traffic (slot);
"""
KEEP_TRAFFIC = """
INSERT INTO traffic VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    arrivals = max(arrivals, excluded.arrivals),
    completions = max(completions, excluded.completions),
    busy_s = max(busy_s, excluded.busy_s), peak = max(peak, excluded.peak)
"""
"""Within a slot everything only grows; a leader that came later may have heard of less."""

Slot = tuple[str, int, DemandSlot]
"""An API, the number of a slot, and what was asked for in it."""


class Ledger:
    """Kept decisions, for an `async with` block; SQLite runs on one thread of its own."""

    def __init__(self, path: Path = IN_MEMORY, most_traffic_rows: int = MOST_TRAFFIC_ROWS) -> None:
        self._path = path
        self._most_rows = most_traffic_rows
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._connection: sqlite3.Connection | None = None
        self._waiting: deque[ScaleDecision] = deque(maxlen=MOST_WAITING)
        self._slots: deque[Slot] = deque(maxlen=MOST_WAITING)
        self._pruned_at_s: float | None = None

    def add(self, decision: ScaleDecision) -> None:
        """Keep a decision; of too many that wait to be written the oldest goes."""
        self._waiting.append(decision)

    def add_traffic(self, slots: Iterable[Slot]) -> None:
        """Keep slots that are over; of too many that wait to be written the oldest go."""
        self._slots.extend(slots)

    async def flush(self) -> None:
        """Write what waits; a file that cannot be written is told of and tried again."""
        batch, self._waiting = self._waiting, deque(maxlen=MOST_WAITING)
        slots, self._slots = self._slots, deque(maxlen=MOST_WAITING)
        if not batch and not slots:
            return
        try:
            await self._run(lambda: self._write(batch, slots))
        except Unavailable as error:
            log.warning("decisions and traffic not kept yet", extra={"why": str(error)})
            self._waiting = deque([*batch, *self._waiting], maxlen=MOST_WAITING)
            self._slots = deque([*slots, *self._slots], maxlen=MOST_WAITING)

    async def since(
        self, api: str, since_s: float, until_s: float, most: int = MOST_TOLD
    ) -> tuple[ScaleDecision, ...]:
        """Return the decisions about an API between two times (wall clock), the newest first."""
        await self.flush()
        where = "api = ? AND at_s >= ? AND at_s <= ? ORDER BY at_s DESC LIMIT ?"
        arguments = (api, since_s, until_s, min(most, MOST_TOLD))
        return await self._run(lambda: self._select(where, arguments))

    async def at(self, api: str, at_s: float, since_s: float = 0.0) -> ScaleDecision | None:
        """Return the decision that stood at a time, None where none since then is kept of it."""
        found = await self.since(api, since_s, at_s, 1)
        return found[0] if found else None

    async def recorded(self, api: str, since_s: float, until_s: float) -> RecordedTraffic:
        """Return the traffic and the counts that are kept of a span (wall clock)."""
        await self.flush()
        return await self._run(lambda: self._recorded(api, since_s, until_s))

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

    def _write(self, batch: Sequence[ScaleDecision], slots: Sequence[Slot]) -> None:
        rows = [(one.api, one.at_s, one.before != one.wanted, wire.encode(one)) for one in batch]
        told = [
            (api, number, one.arrivals, one.completions, one.busy_s, one.peak)
            for api, number, one in slots
        ]
        now_s = batch[-1].at_s if batch else float(slots[-1][1] * DEMAND_SLOT_S)
        database = self._open()
        database.execute("BEGIN")
        try:
            database.executemany("INSERT INTO decisions VALUES (?, ?, ?, ?)", rows)
            database.executemany(KEEP_TRAFFIC, told)
            self._prune(database, now_s)
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
        older = "DELETE FROM traffic WHERE slot < ?"
        database.execute(older, (demand_slot(now_s - TRAFFIC_KEPT_S),))
        newest_that_goes = "SELECT slot FROM traffic ORDER BY slot DESC LIMIT 1 OFFSET ?"
        for (number,) in database.execute(newest_that_goes, (self._most_rows,)).fetchall():
            database.execute(older, (number + 1,))

    def _select(self, where: str, arguments: Sequence[object]) -> tuple[ScaleDecision, ...]:
        rows = self._open().execute(f"SELECT body FROM decisions WHERE {where}", arguments)
        found = []
        for (body,) in rows:
            try:
                found.append(wire.decode(body, ScaleDecision))
            except ConfigError as error:  # of another release, or damaged
                log.warning("decision left out", extra={"why": str(error)})
        return tuple(found)

    def _recorded(self, api: str, since_s: float, until_s: float) -> RecordedTraffic:
        rows = self._open().execute(
            "SELECT slot, arrivals, completions, busy_s, peak FROM traffic"
            " WHERE api = ? AND slot >= ? AND slot < ? ORDER BY slot",
            (api, demand_slot(since_s), demand_slot(until_s)),
        )
        slots = {
            number: DemandSlot(arrivals=arrivals, completions=completions, busy_s=busy_s, peak=peak)
            for number, arrivals, completions, busy_s, peak in rows
        }
        span = "api = ? AND at_s > ? AND at_s <= ? ORDER BY at_s"
        before = "api = ? AND at_s <= ? ORDER BY at_s DESC LIMIT 1"
        decisions = (
            *self._select(before, (api, since_s)),
            *self._select(span, (api, since_s, until_s)),
        )
        return RecordedTraffic(
            api=api, since_s=since_s, until_s=until_s, slots=slots, counts=_counts(decisions)
        )

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise Unavailable(f"the ledger {self._path} failed: {error}") from error
        except TimeoutError as error:
            raise Unavailable(f"the ledger {self._path} took over {DEADLINE_S:g} s") from error


def _counts(decisions: Iterable[ScaleDecision]) -> tuple[RecordedCount, ...]:
    """Return where the count or the start-up time changed, of decisions oldest first."""
    counts: list[RecordedCount] = []
    for one in decisions:
        told = RecordedCount(at_s=one.at_s, wanted=one.wanted, start_up_s=one.start_up_s)
        if not counts or (told.wanted, told.start_up_s) != (
            counts[-1].wanted,
            counts[-1].start_up_s,
        ):
            counts.append(told)
    return tuple(counts)
