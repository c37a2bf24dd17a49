"""The lines of all replicas of an API in time order, and those to come.

Files are read in threads, a chunk per replica at a time, so that neither the event loop nor the
memory feels how much was written.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from serai.clock import Clock
from serai.engine import LogLine, LogQuery
from serai.errors import ConfigError
from serai_agent.local.logfiles import (
    Spot,
    end_of,
    first_since,
    last_lines,
    read_on,
)
from serai_agent.local.logline import MAX_GREP_LENGTH, Source, wanted

FOLLOW_PERIOD_S = 0.2
MAX_TAIL = 10_000

Sources = Callable[[], Sequence[Source]]


def merged(streams: Sequence[Sequence[LogLine]]) -> list[LogLine]:
    """Merge lines that are in order within each stream. Pure."""
    return list(heapq.merge(*streams, key=lambda line: line.at_s))


async def read_logs(query: LogQuery, sources: Sources, clock: Clock) -> AsyncIterator[LogLine]:
    """Yield what a query asks for; `sources` is asked again and again while following.

    Raises ConfigError for a `grep` that is too long.
    """
    if len(query.grep) > MAX_GREP_LENGTH:
        raise ConfigError(f"the text to look for has more than {MAX_GREP_LENGTH} characters")
    there = list(sources())
    ends = await asyncio.to_thread(lambda: {source: end_of(source) for source in there})
    if query.tail is not None:
        for line in await _tail(query, ends):
            yield line
    else:
        async for line in _history(query, ends):
            yield line
    if query.follow:
        async for line in _follow(query, sources, clock, ends):
            yield line


async def _tail(query: LogQuery, ends: dict[Source, Spot]) -> list[LogLine]:
    count = min(query.tail or 0, MAX_TAIL)

    def read() -> list[LogLine]:
        streams = [
            last_lines(source, count, end, lambda line: wanted(line, query), query.since_s)
            for source, end in ends.items()
        ]
        return merged(streams)[-count:] if count else []

    return await asyncio.to_thread(read)


async def _history(query: LogQuery, ends: dict[Source, Spot]) -> AsyncIterator[LogLine]:
    sources = list(ends)
    spots = await asyncio.to_thread(lambda: [first_since(s, query.since_s) for s in sources])
    waiting: list[deque[LogLine]] = [deque() for _ in sources]

    async def fill(index: int) -> None:
        done = False
        while not waiting[index] and not done:
            source = sources[index]
            chunk = await asyncio.to_thread(read_on, source, spots[index], ends[source])
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


async def _follow(
    query: LogQuery, sources: Sources, clock: Clock, spots: dict[Source, Spot]
) -> AsyncIterator[LogLine]:
    spots = dict(spots)

    def read() -> tuple[list[LogLine], bool]:
        streams, more = [], False
        for source in list(spots):
            chunk = read_on(source, spots[source])
            spots[source] = chunk.spot
            more = more or not chunk.done
            streams.append([line for line in chunk.lines if wanted(line, query)])
        return merged(streams), more

    while True:
        known = sources()
        spots = {source: spots.get(source, Spot()) for source in known}
        lines, more = await asyncio.to_thread(read)
        for line in lines:
            yield line
        if not more:
            await clock.sleep(FOLLOW_PERIOD_S)
