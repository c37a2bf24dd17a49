"""What replicas wrote, read through Nomad from the nodes where they ran."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from serai.engine import LogLine
from serai.errors import Refused, Unavailable
from serai.logfiles import last_lines
from serai.logqueries import merged
from serai_scheduler.nomad.client import NomadClient
from serai_scheduler.nomad.reading import seconds_of
from serai_scheduler.nomad.tasks import MAIN_TASK

FOLDER = "/alloc/logs"
GONE = re.compile(rb"(stat|open) /[^\n]*: no such file or directory")
STREAMS = {"stdout": "out", "stderr": "err"}
MOST_TEXT_BYTES = 64 * 2**10
MOST_TIMED_BYTES = 256 * 2**10
"""A longer line is not looked into for its time."""


@dataclass(frozen=True)
class Stream:
    """Implements `serai.logfiles.Source` for one stream of an allocation's task, the main one.

    Nomad's files are numbered from 0, ours from 1. What cannot be read is empty: a node may be gone
    for good, with all that was on it. Every call blocks.
    """

    replica: str
    version: str
    allocation: str
    kind: str
    began_at_s: float = field(compare=False)
    client: NomadClient = field(compare=False, repr=False)
    task: str = MAIN_TASK
    lines_cross_files: bool = field(default=True, compare=False)  # Nomad cuts where a file is full

    def numbers(self) -> Sequence[int]:
        return sorted(self._files())

    def size(self, number: int) -> int | None:
        found = self._files().get(number)
        return found[0] if found else None

    def written_at_s(self, number: int) -> float | None:
        found = self._files().get(number)
        return found[1] if found else None

    def read(self, number: int, offset: int, size: int) -> bytes:
        if size <= 0:
            return b""
        path = f"{FOLDER}/{self.task}.{self.kind}.{number - 1}"
        try:
            found = self.client.read_file(self.allocation, path, offset, size)
        except (Refused, Unavailable):
            return b""
        # Nomad says so with status 200, in the file's place.
        return b"" if GONE.fullmatch(found) else found

    def parse(self, raw: bytes, at_s: float) -> LogLine | None:
        """Return the line; one of our runtime's tells its time in `at`, others tell none."""
        told_s = _told_s(raw)
        return LogLine(
            at_s=at_s if told_s is None else told_s,
            replica=self.replica,
            version=self.version,
            stream=STREAMS[self.kind],
            text=raw[:MOST_TEXT_BYTES].decode("utf-8", "replace"),
        )

    def _files(self) -> dict[int, tuple[int, float]]:
        """Return size and time of the last write of each file by its number."""
        try:
            listed = self.client.list_files(self.allocation, FOLDER)
        except (Refused, Unavailable):
            return {}
        pattern = re.compile(rf"{re.escape(self.task)}\.{self.kind}\.([0-9]{{1,9}})")
        return {
            int(name[1]) + 1: (one["Size"], seconds_of(one["ModTime"]) or 0.0)
            for one in listed
            if (name := pattern.fullmatch(one["Name"]))
        }


def _told_s(raw: bytes) -> float | None:
    if not raw.startswith(b"{") or b'"at"' not in raw or len(raw) > MOST_TIMED_BYTES:
        return None
    try:
        told = json.loads(raw).get("at")
        return datetime.fromisoformat(told).timestamp() if isinstance(told, str) else None
    except (ValueError, RecursionError):
        return None


def tail_of(streams: Sequence[Stream], count: int) -> tuple[str, ...]:
    """Return the last lines of an allocation, in the order of time where they tell it; blocks."""
    lines = merged([last_lines(one, count) for one in streams])
    return tuple(line.text for line in lines[-count:])
