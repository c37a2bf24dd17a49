"""Log lines: parsing, asking, reading from the end, merging. The files are real."""

from pathlib import Path

import pytest

from serai import logfiles
from serai.engine import LogLine, LogQuery
from serai.logfiles import MISSED, Spot, end_of, first_since, last_lines, read_on
from serai.logqueries import merged, takes, wanted
from serai_agent.local.keeper import Lines, LogFiles, stamp
from serai_agent.local.logline import Source

START_S = 1_700_000_000.0


def raw(number: int, text: str = "", stream: bytes = b"o") -> bytes:
    said = text or f"line {number}"
    return b"%s %s %s\n" % (stamp(START_S + number), stream, said.encode())


def source(folder: Path) -> Source:
    return Source(replica="r", version="v1-aaaaaaaa", folder=str(folder))


def line(at_s: float, text: str = "text") -> LogLine:
    return LogLine(at_s=at_s, replica="r", version="v", stream="out", text=text)


def test_a_stored_line_comes_back(tmp_path: Path) -> None:
    found = source(tmp_path).parse(raw(1, "hällo  wörld ", b"e").rstrip(b"\n"), 0.0)
    assert found is not None
    assert (found.at_s, found.stream, found.text) == (START_S + 1, "err", "hällo  wörld ")
    exact = source(tmp_path).parse(stamp(START_S + 0.123456) + b" o x", 0.0)
    assert exact is not None and exact.at_s == pytest.approx(START_S + 0.123456, abs=1e-6)


@pytest.mark.parametrize("damaged", [b"", b"x", b"2026-99-01T o x", b"2026 q x", b"\xff\xff o x"])
def test_a_damaged_line_is_none(damaged: bytes, tmp_path: Path) -> None:
    assert source(tmp_path).parse(damaged, 0.0) is None


def test_grep_is_plain_text_and_minds_case_only_when_it_has_capitals() -> None:
    assert wanted(line(1.0, "An ERROR (a+)+$"), LogQuery(api="a", grep="error (a+)+$"))
    assert wanted(line(1.0, "An ERROR"), LogQuery(api="a", grep="ERROR"))
    assert not wanted(line(1.0, "an error"), LogQuery(api="a", grep="ERROR"))
    assert not wanted(line(1.0), LogQuery(api="a", since_s=1.5))


def test_which_replicas_are_asked_for() -> None:
    assert takes(LogQuery(api="a"), "a", "v1", "r1")
    assert not takes(LogQuery(api="a"), "b", "v1", "r1")
    assert not takes(LogQuery(api="a", replicas=("r2",)), "a", "v1", "r1")
    assert not takes(LogQuery(api="a", version="v2"), "a", "v1", "r1")


def test_streams_are_merged_by_time() -> None:
    found = merged([[line(1), line(4)], [], [line(2), line(3)]])
    assert [entry.at_s for entry in found] == [1, 2, 3, 4]


def test_output_is_cut_into_lines() -> None:
    lines = Lines(b"o", 10)
    assert lines.feed(b"one\ntw", b"T") == b"T o one\n"
    assert lines.feed(b"o\n\n", b"T") == b"T o two\nT o \n"
    assert lines.feed(b"left", b"T") == b""
    assert lines.finish(b"T") == b"T o left\n" and lines.finish(b"T") == b""


def test_an_endless_line_is_cut_and_the_next_one_is_whole() -> None:
    lines = Lines(b"e", 10)
    first = lines.feed(b"0123456789abc", b"T")
    assert first == b"T e 0123456789 [cut: the line is longer]\n"
    assert lines.feed(b"more of it" * 100, b"T") == b""
    assert lines.feed(b"its end\nnext\n", b"T") == b"T e next\n"


def test_files_rotate_by_size_and_the_oldest_go(tmp_path: Path) -> None:
    files = LogFiles(str(tmp_path), 100, 3)
    for number in range(20):
        files.write(raw(number))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3 and names[-1] == "000007.log"
    assert all(path.stat().st_size < 200 for path in tmp_path.iterdir())
    again = LogFiles(str(tmp_path), 100, 3)
    again.write(raw(20))
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "000008.log"


@pytest.fixture
def filled(tmp_path: Path) -> Source:
    files = LogFiles(str(tmp_path), 2000, 100)
    for number in range(500):
        files.write(raw(number))
    return source(tmp_path)


def numbers_of(lines: list[LogLine]) -> list[int]:
    return [int(entry.text.split()[1]) for entry in lines]


@pytest.mark.parametrize("count", [0, 1, 7, 60, 499, 500, 900])
def test_the_last_lines_from_the_end(filled: Source, count: int) -> None:
    assert numbers_of(last_lines(filled, count)) == list(range(500))[max(0, 500 - count) :]


def test_the_last_lines_that_match_or_are_young_enough(filled: Source) -> None:
    even = last_lines(filled, 3, keep=lambda entry: int(entry.text.split()[1]) % 100 == 0)
    assert numbers_of(even) == [200, 300, 400]
    assert numbers_of(last_lines(filled, 100, since_s=START_S + 497)) == [497, 498, 499]


def test_long_lines_are_put_together_from_their_blocks(tmp_path: Path) -> None:
    texts = [letter * 200_000 for letter in "abc"]
    (tmp_path / "000001.log").write_bytes(b"".join(raw(n, t) for n, t in enumerate(texts)))
    assert [entry.text for entry in last_lines(source(tmp_path), 2)] == texts[1:]


def test_a_tail_holds_a_bounded_amount(tmp_path: Path) -> None:
    long = b"".join(raw(n, "x" * 60_000) for n in range(600))
    (tmp_path / "000001.log").write_bytes(long)
    found = last_lines(source(tmp_path), 10_000)
    assert sum(len(entry.text) for entry in found) < logfiles.TAIL_BYTES * 1.1


def read_all(where: Source, spot: Spot, until: Spot | None = None) -> list[LogLine]:
    lines: list[LogLine] = []
    done = False
    while not done:
        chunk = read_on(where, spot, until)
        lines += chunk.lines
        spot, done = chunk.spot, chunk.done
    return lines


def test_reading_on_crosses_files_and_stops_where_it_should(filled: Source) -> None:
    assert numbers_of(read_all(filled, Spot())) == list(range(500))
    middle = last_lines(filled, 1)
    assert numbers_of(middle) == [499]
    end = end_of(filled)
    assert read_all(filled, end) == []
    folder = Path(filled.folder)
    with (folder / f"{end.number:06d}.log").open("ab") as file:
        file.write(raw(500))
    assert numbers_of(read_all(filled, end)) == [500]
    assert numbers_of(read_all(filled, Spot(), end)) == list(range(500))
    assert numbers_of(last_lines(filled, 1, until=end)) == [499]


def test_reading_on_goes_to_the_next_file_when_its_own_was_removed(filled: Source) -> None:
    folder = Path(filled.folder)
    for number in (1, 2, 3):
        (folder / f"{number:06d}.log").unlink()
    first, *others = read_all(filled, Spot(2, 100))
    assert first.text == MISSED and first.at_s == others[0].at_s
    found = numbers_of(others)
    assert found and found == list(range(found[0], 500))
    assert numbers_of(read_all(filled, Spot())) == found, "who begins has missed nothing"


def test_a_line_that_is_not_finished_is_left_for_later(tmp_path: Path) -> None:
    where, path = source(tmp_path), tmp_path / "000001.log"
    path.write_bytes(raw(0) + raw(1)[:-5])
    chunk = read_on(where, Spot())
    assert numbers_of(list(chunk.lines)) == [0]
    assert read_on(where, chunk.spot).done
    path.write_bytes(raw(0) + raw(1))
    assert numbers_of(list(read_on(where, chunk.spot).lines)) == [1]


def test_a_torn_line_at_the_end_of_a_full_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "000001.log").write_bytes(raw(0) + raw(1)[:-5])
    (tmp_path / "000002.log").write_bytes(raw(2))
    assert numbers_of(read_all(source(tmp_path), Spot())) == [0, 2]


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    where = source(tmp_path / "none")
    assert last_lines(where, 5) == [] and end_of(where) == Spot() and read_all(where, Spot()) == []
    assert first_since(where, None) == Spot()


def test_the_end_lies_behind_a_whole_line(tmp_path: Path) -> None:
    # A follower that began in the middle of a write once lost the line that was cut in two.
    where = source(tmp_path)
    begun = raw(2)
    (tmp_path / "000001.log").write_bytes(raw(1) + begun[:5])
    assert end_of(where) == Spot(1, len(raw(1)))
    (tmp_path / "000001.log").write_bytes(raw(1) + begun)
    assert numbers_of(read_all(where, Spot(1, len(raw(1))))) == [2]
    (tmp_path / "000001.log").write_bytes(b"x" * 10)
    assert end_of(where) == Spot(1, 0)
