"""Reads the log files of one source: forwards in chunks, or the last lines from the end.

Files are numbered and never renamed, so a place (number, offset) stays true across rotation.
Nothing here reads more than a chunk at a time, however large the files are. All of it blocks: call
it in a thread.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from serai.engine import LogLine

CHUNK_BYTES = 256 * 2**10
BLOCK_BYTES = 64 * 2**10
TAIL_BYTES = 16 * 2**20
"""The most that a tail holds in memory, whatever number of lines was asked for."""


UNKNOWN_S = math.inf
"""The time of a line that tells none, until the line before it is known."""
MISSED = "… lines are missing here: they were removed before they could be read"


class Source(Protocol):
    """The files of one stream of lines, numbered from 1. Hashable; what is not there is empty.

    `lines_cross_files` says that a line may begin in one file and end in the next; else the begun
    line at a file's end is a torn one, which nothing follows.
    """

    @property
    def lines_cross_files(self) -> bool: ...

    @property
    def began_at_s(self) -> float:
        """Return a time for lines before the first one that tells its own."""
        ...

    def numbers(self) -> Sequence[int]:
        """Return the numbers of the files that are there, oldest first."""
        ...

    def size(self, number: int) -> int | None:
        """Return the bytes of a file, None when it is gone."""
        ...

    def written_at_s(self, number: int) -> float | None:
        """Return when a file was last written to, None when it is gone."""
        ...

    def read(self, number: int, offset: int, size: int) -> bytes: ...

    def parse(self, raw: bytes, at_s: float) -> LogLine | None:
        """Return the line, with `at_s` as its time when it tells none; None when it is damaged."""
        ...


@dataclass(frozen=True, order=True)
class Spot:
    """A place in a log: the file's number and a byte in it.

    `at_s` is of the line before it, `begun` is what earlier files hold of the line at it.
    """

    number: int = 0
    offset: int = 0
    at_s: float | None = field(default=None, compare=False)
    begun: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True)
class Chunk:
    """Some lines and where the next ones begin; `done` when there was nothing more."""

    lines: tuple[LogLine, ...]
    spot: Spot
    done: bool


def end_of(source: Source) -> Spot:
    """Return the place behind the last whole line that has been written so far.

    A write that is under way may show in part: a line that was begun belongs to what comes after.
    """
    found = source.numbers()
    if not found:
        return Spot()
    number = found[-1]
    position = source.size(number) or 0
    while position > 0:
        size = min(BLOCK_BYTES, position)
        if (whole := source.read(number, position - size, size).rfind(b"\n") + 1) > 0:
            return Spot(number, position - size + whole)
        position -= size
    return Spot(number, 0)


def first_since(source: Source, since_s: float | None) -> Spot:
    """Return the place of the first file that can hold lines since then."""
    for number in source.numbers():
        written_s = source.written_at_s(number)
        if written_s is not None and (since_s is None or written_s >= since_s):
            return Spot(number, 0)
    return end_of(source)


def read_on(source: Source, spot: Spot, until: Spot | None = None) -> Chunk:
    """Return the next lines behind `spot`, at most a chunk, none at or behind `until`."""
    found = [n for n in source.numbers() if n >= spot.number]
    if not found or (until is not None and spot >= until):
        return Chunk((), spot, done=True)
    missed = spot.number not in (0, found[0])  # removed before it was read to its end
    if found[0] != spot.number:
        spot = Spot(found[0], 0, spot.at_s)
    limit = CHUNK_BYTES
    if until is not None and spot.number == until.number:
        limit = min(limit, until.offset - spot.offset)
    data = source.read(spot.number, spot.offset, limit)
    whole = data.rfind(b"\n") + 1
    if not whole and len(data) == CHUNK_BYTES:
        whole = len(data)  # a line without an end is cut, else nothing behind it would be seen
    if whole:
        raw = (spot.begun + data[:whole]).removesuffix(b"\n").split(b"\n")
        at_s = source.began_at_s if spot.at_s is None else spot.at_s
        lines: list[LogLine] = []
        for one in raw:
            if (line := source.parse(one, at_s)) is not None:
                lines.append(line)
                at_s = line.at_s
        if missed and lines:
            lines.insert(0, msgspec.structs.replace(lines[0], stream="err", text=MISSED))
        return Chunk(tuple(lines), Spot(spot.number, spot.offset + whole, at_s), done=False)
    if len(found) > 1:
        begun = (spot.begun + data)[-CHUNK_BYTES:] if source.lines_cross_files else b""
        return Chunk((), Spot(found[1], 0, spot.at_s, begun), done=False)
    return Chunk((), spot, done=True)


def last_lines(
    source: Source,
    count: int,
    until: Spot | None = None,
    keep: Callable[[LogLine], bool] = lambda line: True,
    since_s: float | None = None,
) -> list[LogLine]:
    """Return the last lines that are kept, oldest first, reading from the end."""
    kept: list[LogLine] = []
    held_bytes = 0
    for raw in _backwards(source, until):
        if len(kept) >= count or held_bytes > TAIL_BYTES:
            break
        line = source.parse(raw, UNKNOWN_S)
        if line is None:
            continue
        if since_s is not None and line.at_s < since_s:
            break
        if keep(line):
            kept.append(line)
            held_bytes += len(raw)
    kept.reverse()
    return _timed(kept, source.began_at_s, since_s)


def _timed(lines: Sequence[LogLine], at_s: float, since_s: float | None) -> list[LogLine]:
    """Give lines that tell no time that of the line before."""
    timed: list[LogLine] = []
    for line in lines:
        if line.at_s == UNKNOWN_S:
            line = msgspec.structs.replace(line, at_s=at_s)
        at_s = line.at_s
        if since_s is None or at_s >= since_s:
            timed.append(line)
    return timed


def _backwards(source: Source, until: Spot | None) -> Iterator[bytes]:
    pieces: list[bytes] = []  # of the line whose beginning has not been read yet, last one first
    for number in reversed(source.numbers()):
        if until is not None and number > until.number:
            continue
        position = source.size(number) or 0
        if until is not None and number == until.number:
            position = min(position, until.offset)
        while position > 0:
            size = min(BLOCK_BYTES, position)
            position -= size
            first, *rest = source.read(number, position, size).split(b"\n")
            if rest:
                pieces.append(rest.pop())
                if line := b"".join(reversed(pieces)):
                    yield line
                yield from (line for line in reversed(rest) if line)
                pieces = []
            pieces.append(first)
        if not source.lines_cross_files:
            if line := b"".join(reversed(pieces)):
                yield line
            pieces = []
    if line := b"".join(reversed(pieces)):
        yield line
