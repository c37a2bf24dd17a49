"""One replica's log on this machine: its numbered files, and a line in them."""

import os
from datetime import datetime
from pathlib import Path

from serai.engine import LogLine
from serai.model import Value

STREAMS = {b"o": "out", b"e": "err"}


class Source(Value):
    """Implements `serai.logfiles.Source`; `folder` holds the files of one replica."""

    replica: str
    version: str
    folder: str

    @property
    def lines_cross_files(self) -> bool:
        return False

    @property
    def began_at_s(self) -> float:
        return 0.0  # every line tells its time

    def numbers(self) -> list[int]:
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        return sorted(int(n[:-4]) for n in names if n.endswith(".log") and n[:-4].isdigit())

    def size(self, number: int) -> int | None:
        try:
            return self._path(number).stat().st_size
        except OSError:
            return None

    def written_at_s(self, number: int) -> float | None:
        try:
            return self._path(number).stat().st_mtime
        except OSError:
            return None

    def read(self, number: int, offset: int, size: int) -> bytes:
        try:
            with self._path(number).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError:
            return b""

    def parse(self, raw: bytes, at_s: float) -> LogLine | None:
        """Read `TIME STREAM TEXT`; None when the line is damaged (a power cut, a full disk)."""
        at, _, rest = raw.partition(b" ")
        stream, _, text = rest.partition(b" ")
        name = STREAMS.get(stream)
        if name is None:
            return None
        try:
            at_s = datetime.fromisoformat(at.decode("ascii")).timestamp()
        except ValueError:
            return None
        return LogLine(
            at_s=at_s,
            replica=self.replica,
            version=self.version,
            stream=name,
            text=text.decode("utf-8", "replace"),
        )

    def _path(self, number: int) -> Path:
        return Path(self.folder) / f"{number:06d}.log"
