"""Uploads what the scheduler lacks of a project: in parallel, in few requests, resumed when broken.

Nothing is remembered about an upload: after a break it is asked anew what is missing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import aiohttp

from serai.clock import Clock, backoff
from serai.errors import SeraiError, Unavailable, ungrouped
from serai_cli.project.blob_client import BlobClient, Target
from serai_cli.project.bundle import Source
from serai_cli.project.packing import Batch, Piece, pack
from serai_cli.project.reading import parts_of

__all__ = ["Progress", "Target", "upload"]

PARALLEL = 4
ATTEMPTS = 8
"""So many rounds in a row may bring nothing over before an upload is given up."""


@dataclass(frozen=True)
class Progress:
    """How far an upload is; the totals are of what was missing when it began."""

    sent_bytes: int
    total_bytes: int
    sent_files: int
    total_files: int


async def upload(
    session: aiohttp.ClientSession,
    target: Target,
    sources: Sequence[Source],
    on_progress: Callable[[Progress], None],
    clock: Clock,
    rng: Random,
) -> Progress:
    """Bring over everything that the scheduler lacks; return how much that was.

    A broken connection is tried again with growing pauses, for as long as something gets through.
    Raises Unavailable when nothing did for ATTEMPTS rounds, ConfigError when a file changes
    meanwhile, and Refused for what the scheduler does not take (`disk_full`, …).
    """
    work = _Upload(BlobClient(session, target), sources, on_progress)
    delays, failures = backoff(rng), 0
    while True:
        before = work.settled
        try:
            if await work.round():
                return work.progress()
        except Unavailable as error:
            moved = work.settled > before
            failures = 1 if moved else failures + 1
            if failures >= ATTEMPTS:
                raise Unavailable(f"{error}. {work.told()}; deploy again to resume") from error
            delays = backoff(rng) if moved else delays
            await clock.sleep(next(delays))


class _Upload:
    """One upload; `settled` grows whenever the scheduler is known to hold more than before."""

    def __init__(
        self,
        client: BlobClient,
        sources: Sequence[Source],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._client = client
        self._wanted = {source.digest: source for source in sources}
        self._missing: list[str] | None = None
        self._parts: dict[str, tuple[Piece, ...]] = {}
        self._on_progress = on_progress
        self._parts_settled: dict[str, int] = {}
        self._sent_bytes = self._total_bytes = self._total_files = 0
        self._seemed_done = False
        self.settled = 0

    async def round(self) -> bool:
        """Ask what is missing and send it; True when nothing was. Unavailable for any break."""
        missing = await self._client.missing(
            list(self._wanted) if self._missing is None else self._missing
        )
        lacking = [self._wanted[digest] for digest in missing]
        self._note(missing, sum(source.size_bytes for source in lacking))
        if lacking:
            await self._send(lacking)
            self._seemed_done = True
        return not lacking

    def _note(self, missing: list[str], missing_bytes: int) -> None:
        """Take down what the scheduler said is missing."""
        seemed_done, self._seemed_done = self._seemed_done, False
        if self._missing is None:
            self._total_files, self._total_bytes = len(missing), missing_bytes
        else:
            self.settled += len(self._missing) - len(missing)
            if seemed_done and len(self._missing) == len(missing):
                raise Unavailable("the scheduler does not keep what it was sent")
        self._missing = missing
        self._sent_bytes = self._total_bytes - missing_bytes
        self._tell()

    async def _send(self, lacking: Sequence[Source]) -> None:
        packed = pack(lacking)
        todo: deque[Batch | Piece] = deque()
        for source in packed.big:
            todo += await self._parts_to_send(source)
        todo += packed.packages
        failures: list[Unavailable] = []
        with ungrouped(SeraiError):
            async with asyncio.TaskGroup() as group:
                for _ in range(min(PARALLEL, len(todo))):
                    group.create_task(self._worker(todo, failures))
        if failures:
            raise failures[0]
        for source in packed.big:
            await self._client.compose(source, self._parts[source.digest])

    async def _parts_to_send(self, source: Source) -> list[Piece]:
        if source.digest not in self._parts:
            self._parts[source.digest] = await asyncio.to_thread(parts_of, source)
        parts = self._parts[source.digest]
        digests = list(dict.fromkeys(part.digest for part in parts))
        missing = set(await self._client.missing(digests, parts=True))
        there = len(digests) - len(missing)
        self.settled += max(0, there - self._parts_settled.get(source.digest, 0))
        self._parts_settled[source.digest] = there
        first = {part.digest: part for part in reversed(parts)}
        todo = [part for digest, part in first.items() if digest in missing]
        self._sent_bytes += source.size_bytes - sum(part.size_bytes for part in todo)
        return todo

    async def _worker(self, todo: "deque[Batch | Piece]", failures: list[Unavailable]) -> None:
        """Send one package after the other; stop at the first that does not get through."""
        while todo:
            package = todo.popleft()
            try:
                with self._counting() as count:
                    await self._client.send(package, count)
            except Unavailable as error:
                failures.append(error)
                return

    @contextmanager
    def _counting(self) -> Iterator[Callable[[int], None]]:
        """Give a counter for the bytes of one request; what it counted is void after an error."""
        counted = 0

        def count(sent_bytes: int) -> None:
            nonlocal counted
            counted += sent_bytes
            self._sent_bytes += sent_bytes
            self._tell()

        try:
            yield count
        except SeraiError:
            self._sent_bytes -= counted
            raise

    def _tell(self) -> None:
        self._on_progress(self.progress())

    def progress(self) -> Progress:
        """Return how far it is."""
        missing = len(self._missing or ())
        return Progress(
            sent_bytes=min(self._sent_bytes, self._total_bytes),
            total_bytes=self._total_bytes,
            sent_files=self._total_files - missing,
            total_files=self._total_files,
        )

    def told(self) -> str:
        """Return in words what is left."""
        if self._missing is None:
            return "Nothing was sent yet"
        return f"{len(self._missing)} of {self._total_files} files are still missing"
