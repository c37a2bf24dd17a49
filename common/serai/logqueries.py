"""The lines of all replicas of an API in time order, and those to come.

Files are read in threads, a chunk per replica at a time, so that neither the event loop nor the
memory feels how much was written.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from serai.clock import Clock
from serai.engine import LogLine, LogQuery
from serai.errors import ConfigError
from serai.logfiles import (
    Source,
    Spot,
    end_of,
    first_since,
    last_lines,
    read_on,
)

T = TypeVar("T")

FOLLOW_PERIOD_S = 0.2
MAX_TAIL = 10_000
MAX_GREP_LENGTH = 1000

Sources = Callable[[], Sequence[Source]]


class Threads(Protocol):
    """Runs what blocks in a thread."""

    async def __call__(self, work: Callable[[], T], /) -> T: ...


def wanted(line: LogLine, query: LogQuery) -> bool:
    """Say whether a line is asked for.

    `grep` is a plain piece of text, not a regular expression (those can take minutes for one
    line and would hold up the whole process); it ignores case unless it has capitals itself.
    """
    if query.since_s is not None and line.at_s < query.since_s:
        return False
    if not query.grep:
        return True
    return query.grep in (line.text if query.grep != query.grep.lower() else line.text.lower())


def takes(query: LogQuery, api: str, version: str, replica: str) -> bool:
    """Say whether a replica's lines are asked for at all."""
    return (
        api == query.api
        and (not query.replicas or replica in query.replicas)
        and (not query.version or version == query.version)
    )


def merged(streams: Sequence[Sequence[LogLine]]) -> list[LogLine]:
    """Merge lines that are in order within each stream. Pure."""
    return list(heapq.merge(*streams, key=lambda line: line.at_s))


async def read_logs(
    query: LogQuery,
    sources: Sources,
    clock: Clock,
    period_s: float = FOLLOW_PERIOD_S,
    in_thread: Threads = asyncio.to_thread,
) -> AsyncIterator[LogLine]:
    """Yield what a query asks for; while following, `sources` is asked again every `period_s`.

    Raises ConfigError for a `grep` that is too long.
    """
    if len(query.grep) > MAX_GREP_LENGTH:
        raise ConfigError(f"the text to look for has more than {MAX_GREP_LENGTH} characters")
    there = list(sources())
    ends = await in_thread(lambda: {source: end_of(source) for source in there})
    if query.tail is not None:
        for line in await _tail(query, ends, in_thread):
            yield line
    else:
        async for line in _history(query, ends, in_thread):
            yield line
    if query.follow:
        spots = dict(ends)
        while True:
            spots = {source: spots.get(source, Spot()) for source in sources()}
            lines, more = await in_thread(partial(_next_lines, query, spots))
            for line in lines:
                yield line
            if not more:
                await clock.sleep(period_s)


async def _tail(query: LogQuery, ends: dict[Source, Spot], in_thread: Threads) -> list[LogLine]:
    count = min(query.tail or 0, MAX_TAIL)

    def read() -> list[LogLine]:
        streams = [
            last_lines(source, count, end, lambda line: wanted(line, query), query.since_s)
            for source, end in ends.items()
        ]
        return merged(streams)[-count:] if count else []

    return await in_thread(read)


async def _history(
    query: LogQuery, ends: dict[Source, Spot], in_thread: Threads
) -> AsyncIterator[LogLine]:
    sources = list(ends)
    spots = await in_thread(lambda: [first_since(s, query.since_s) for s in sources])
    waiting: list[deque[LogLine]] = [deque() for _ in sources]

    async def fill(index: int) -> None:
        done = False
        while not waiting[index] and not done:
            source = sources[index]
            spot = spots[index]
            chunk = await in_thread(partial(read_on, source, spot, ends[source]))
            spots[index], done = chunk.spot, chunk.done
            waiting[index].extend(line for line in chunk.lines if wanted(line, query))

    for index in range(len(sources)):
        await fill(index)
    heap = [(lines[0].at_s, index) for index, lines in enumerate(waiting) if lines]
    heapq.heapify(heap)
    while heap:
        _, index = heap[0]
        yield waiting[index].popleft()
        if not waiting[index]:
            await fill(index)
        if waiting[index]:
            heapq.heapreplace(heap, (waiting[index][0].at_s, index))
        else:
            heapq.heappop(heap)


def _next_lines(query: LogQuery, spots: dict[Source, Spot]) -> tuple[list[LogLine], bool]:
    """Read a chunk of each source and move its spot; say whether there may be more."""
    streams, more = [], False
    for source in list(spots):
        chunk = read_on(source, spots[source])
        spots[source] = chunk.spot
        more = more or not chunk.done
        streams.append([line for line in chunk.lines if wanted(line, query)])
    return merged(streams), more
