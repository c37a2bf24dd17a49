"""The lines that replicas wrote: read, merged in time order, followed."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from serai.engine import LogLine, LogQuery

READ_BYTES = 256 * 1024
TAIL_LIMIT = 10_000
DEFAULT_TAIL = 1000
STREAMS = {"o": "out", "e": "err"}


def parse(raw: str, replica: str, version: str) -> LogLine | None:
    """Read one stored line `TIME STREAM TEXT`; None when it is damaged."""
    stamp, _, rest = raw.partition(" ")
    stream, _, text = rest.partition(" ")
    try:
        at_s = float(stamp)
    except ValueError:
        return None
    name = STREAMS.get(stream)
    return (
        LogLine(at_s=at_s, replica=replica, version=version, stream=name, text=text)
        if name
        else None
    )


def wanted(line: LogLine, query: LogQuery) -> bool:
    """Say whether a line belongs to the answer; `grep` is a plain substring."""
    if query.since_s is not None and line.at_s < query.since_s:
        return False
    return query.grep in line.text


def merge(streams: Iterable[Iterable[LogLine]]) -> Iterator[LogLine]:
    """Merge lines that are in order within each stream."""
    return heapq.merge(*streams, key=lambda line: line.at_s)


@dataclass
class Source:
    """One replica's log files, oldest first, with how far they have been followed."""

    replica: str
    version: str
    folder: Path
    inode: int = 0
    offset: int = 0
    rest: bytes = b""
    files: tuple[Path, ...] = field(default=())

    def paths(self) -> list[Path]:
        """Return the files that exist, oldest first."""
        older = sorted(
            (p for p in self.folder.glob("[0-9]*.log")), key=lambda p: int(p.stem), reverse=True
        )
        current = self.folder / "current.log"
        return [*older, *([current] if current.exists() else [])]

    def tail(self, count: int) -> list[LogLine]:
        """Return the last lines, read from the end so that large logs cost little."""
        found: list[LogLine] = []
        for path in reversed(self.paths()):
            lines = [parse(raw, self.replica, self.version) for raw in _last_lines(path, count)]
            found = [line for line in lines if line is not None] + found
            if len(found) >= count:
                break
        return found[-count:] if count else []

    def start_following(self) -> None:
        """Begin after what is there now."""
        current = self.folder / "current.log"
        if current.exists():
            stat = current.stat()
            self.inode, self.offset = stat.st_ino, stat.st_size

    def fresh(self) -> list[LogLine]:
        """Return the lines written since the last call, across a rotation."""
        current = self.folder / "current.log"
        try:
            inode = current.stat().st_ino
        except FileNotFoundError:
            return []
        lines: list[LogLine] = []
        if self.inode and inode != self.inode:
            rotated = next((p for p in self.paths() if p.stat().st_ino == self.inode), None)
            if rotated is not None:
                lines += self._read(rotated)
            self.offset = 0
        self.inode = inode
        return lines + self._read(current)

    def _read(self, path: Path) -> list[LogLine]:
        with path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(READ_BYTES)
        self.offset += len(data)
        *raw, self.rest = (self.rest + data).split(b"\n")
        lines = [parse(r.decode("utf-8", "replace"), self.replica, self.version) for r in raw]
        return [line for line in lines if line is not None]


def _last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a file, reading blocks from its end."""
    data = b""
    with path.open("rb") as file:
        position = file.seek(0, 2)
        while position > 0 and data.count(b"\n") <= count:
            step = min(READ_BYTES, position)
            position -= step
            file.seek(position)
            data = file.read(step) + data
    return data.decode("utf-8", "replace").splitlines()[-count:]
