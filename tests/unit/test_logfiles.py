"""Lines that do not tell their time, as programs write them, among those that do."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from serai.engine import LogLine
from serai.logfiles import CHUNK_BYTES, Spot, last_lines, read_on

BEGAN_S = 100.0


@dataclass(frozen=True)
class Texts:
    """Files in memory; a line `@7 text` tells its time."""

    files: tuple[bytes, ...]
    began_at_s: float = BEGAN_S
    lines_cross_files: bool = False

    def numbers(self) -> Sequence[int]:
        return range(1, len(self.files) + 1)

    def size(self, number: int) -> int | None:
        return len(self.files[number - 1])

    def written_at_s(self, number: int) -> float | None:
        return 0.0

    def read(self, number: int, offset: int, size: int) -> bytes:
        return self.files[number - 1][offset : offset + size]

    def parse(self, raw: bytes, at_s: float) -> LogLine | None:
        text = raw.decode()
        if text.startswith("@"):
            at_s = float(text[1:].split()[0])
        return LogLine(at_s=at_s, replica="r", version="v", stream="out", text=text)


def times(lines: Sequence[LogLine]) -> list[float]:
    return [line.at_s for line in lines]


def forwards(source: Texts) -> list[LogLine]:
    spot, found, done = Spot(), list[LogLine](), False
    while not done:
        chunk = read_on(source, spot)
        spot, done = chunk.spot, chunk.done
        found += chunk.lines
    return found


MIXED = Texts((b"one\n@200 two\nthree\n", b"four\n@300 five\nsix\n"))


def test_a_line_without_a_time_has_that_of_the_line_before() -> None:
    assert times(forwards(MIXED)) == [BEGAN_S, 200, 200, 200, 300, 300]


def test_from_the_end_too() -> None:
    assert times(last_lines(MIXED, 2)) == [300, 300]
    assert times(last_lines(MIXED, 5)) == [200, 200, 200, 300, 300]
    assert times(last_lines(MIXED, 9)) == [BEGAN_S, 200, 200, 200, 300, 300]
    assert [line.text for line in last_lines(MIXED, 9, since_s=250)] == ["@300 five", "six"]


def test_a_line_without_an_end_does_not_hide_what_follows() -> None:
    endless = Texts((b"x" * (CHUNK_BYTES + 10) + b"\n@200 after\n",))
    first = read_on(endless, Spot())
    second = read_on(endless, first.spot)
    assert [len(line.text) for line in first.lines] == [CHUNK_BYTES]
    assert [line.text for line in second.lines] == ["x" * 10, "@200 after"]


@pytest.mark.parametrize(
    "files",
    [
        (b"one\ntwo\n", b"three\n"),
        (b"one\ntw", b"o\nthree\n"),
        (b"one\nt", b"w", b"o\nthree\n"),
        (b"one", b"\ntwo\nthree", b"\n"),
    ],
)
def test_a_line_may_be_cut_where_a_file_was_full(files: tuple[bytes, ...]) -> None:
    crossing = Texts(files, lines_cross_files=True)
    for found in (forwards(crossing), last_lines(crossing, 3)):
        assert [line.text for line in found] == ["one", "two", "three"]


def test_else_it_is_a_torn_one() -> None:
    torn = Texts((b"one\ntw", b"three\n"))
    assert [line.text for line in forwards(torn)] == ["one", "three"]
