"""Reads one replica's log files: forwards in chunks, or the last lines from the end.

Files are numbered and never renamed, so a place (number, offset) stays true across rotation.
Nothing here reads more than a chunk at a time, however large the files are.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from serai.engine import LogLine
from serai_agent.local.logline import Source, parse

CHUNK_BYTES = 256 * 2**10
BLOCK_BYTES = 64 * 2**10
TAIL_BYTES = 16 * 2**20
"""The most that a tail holds in memory, whatever number of lines was asked for."""


@dataclass(frozen=True, order=True)
class Spot:
    """A place in a replica's log: the file's number and a byte in it."""

    number: int = 0
    offset: int = 0


MISSED = "… lines are missing here: they were removed before they could be read"


@dataclass(frozen=True)
class Chunk:
    """Some lines and where the next ones begin; `done` when there was nothing more."""

    lines: tuple[LogLine, ...]
    spot: Spot
    done: bool


def numbers(folder: str) -> list[int]:
    """Return the numbers of the files that are there, oldest first."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(int(n[:-4]) for n in names if n.endswith(".log") and n[:-4].isdigit())


def end_of(source: Source) -> Spot:
    """Return the place behind the last whole line that has been written so far.

    A write that is under way may show in part: a line that was begun belongs to what comes after.
    """
    found = numbers(source.folder)
    if not found:
        return Spot()
    path = _path(source, found[-1])
    try:
        position = path.stat().st_size
    except OSError:
        return Spot(found[-1], 0)
    while position > 0:
        size = min(BLOCK_BYTES, position)
        if (whole := _read(path, position - size, size).rfind(b"\n") + 1) > 0:
            return Spot(found[-1], position - size + whole)
        position -= size
    return Spot(found[-1], 0)


def first_since(source: Source, since_s: float | None) -> Spot:
    """Return the place of the first file that can hold lines since then."""
    for number in numbers(source.folder):
        try:
            written_s = _path(source, number).stat().st_mtime
        except OSError:
            continue
        if since_s is None or written_s >= since_s:
            return Spot(number, 0)
    return end_of(source)


def read_on(source: Source, spot: Spot, until: Spot | None = None) -> Chunk:
    """Return the next lines behind `spot`, at most a chunk, none at or behind `until`."""
    found = [n for n in numbers(source.folder) if n >= spot.number]
    if not found or (until is not None and spot >= until):
        return Chunk((), spot, done=True)
    missed = spot.number not in (0, found[0])  # removed before it was read to its end
    if found[0] != spot.number:
        spot = Spot(found[0], 0)
    limit = CHUNK_BYTES
    if until is not None and spot.number == until.number:
        limit = min(limit, until.offset - spot.offset)
    data = _read(_path(source, spot.number), spot.offset, limit)
    whole = data.rfind(b"\n") + 1
    if whole:
        raw = data[:whole].split(b"\n")[:-1]
        parsed = (parse(line, source) for line in raw)
        lines = tuple(line for line in parsed if line is not None)
        if missed and lines:
            lines = (msgspec.structs.replace(lines[0], stream="err", text=MISSED), *lines)
        return Chunk(lines, Spot(spot.number, spot.offset + whole), done=False)
    if len(found) > 1:
        return Chunk((), Spot(found[1], 0), done=False)  # a torn last line is left behind
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
        line = parse(raw, source)
        if line is None:
            continue
        if since_s is not None and line.at_s < since_s:
            break
        if keep(line):
            kept.append(line)
            held_bytes += len(raw)
    kept.reverse()
    return kept


def _backwards(source: Source, until: Spot | None) -> Iterator[bytes]:
    for number in reversed(numbers(source.folder)):
        path = _path(source, number)
        if until is not None and number > until.number:
            continue
        try:
            position = path.stat().st_size
        except OSError:
            continue
        if until is not None and number == until.number:
            position = min(position, until.offset)
        yield from _file_backwards(path, position)


def _file_backwards(path: Path, position: int) -> Iterator[bytes]:
    pieces: list[bytes] = []  # of the line whose beginning has not been read yet, last one first
    while position > 0:
        size = min(BLOCK_BYTES, position)
        position -= size
        first, *rest = _read(path, position, size).split(b"\n")
        if rest:
            pieces.append(rest.pop())
            if line := b"".join(reversed(pieces)):
                yield line
            yield from (line for line in reversed(rest) if line)
            pieces = []
        pieces.append(first)
    if line := b"".join(reversed(pieces)):
        yield line


def _read(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError:
        return b""


def _path(source: Source, number: int) -> Path:
    return Path(source.folder) / f"{number:06d}.log"
