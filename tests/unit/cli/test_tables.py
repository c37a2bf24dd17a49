"""Tables that fit, text in cells, numbers in few characters."""

import re

from hypothesis import given
from hypothesis import strategies as st

from serai_cli.quantities import ago, count, milliseconds, rate, size
from serai_cli.tables import Column, Look, table
from serai_cli.text import cells, cut, escaped, paint, printable

COLUMNS = (
    Column("name", least=6),
    Column("count", right=True, drop=1),
    Column("errors", right=True, quiet="0"),
    Column("why", least=8, drop=2),
)
TEXT = st.text(max_size=30)


def test_columns_are_aligned_and_what_says_nothing_is_left_out() -> None:
    rows = [["a", "1", "0", "x"], ["bb", "22", "0", "y"]]
    assert table(COLUMNS, rows) == ["name  count  why", "a         1  x", "bb       22  y"]


def test_what_does_not_fit_is_shortened_first_and_left_out_last() -> None:
    rows = [["a-very-long-name", "12345", "0", "because of it"]]
    assert table(COLUMNS, rows, Look(width=32))[1] == "a-very-lo…  12345  because of it"
    assert table(COLUMNS, rows, Look(width=18))[1] == "a-very…  because …"
    assert table(COLUMNS, rows, Look(width=7))[1] == "a-very…"


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT), max_size=5), st.integers(1, 120), st.booleans())
def test_no_line_is_ever_wider_than_it_may_be(
    rows: list[tuple[str, str, str, str]], width: int, colour: bool
) -> None:
    for line in table(COLUMNS, rows, Look(width, colour)):
        assert cells(re.sub(r"\x1b\[\d+m", "", line)) <= width


def test_text_is_measured_in_cells_of_the_terminal() -> None:
    assert [cells(text) for text in ("abc", "模型", "e\u0301")] == [3, 4, 1]
    assert cut("abcdef", 4) == "abc…" and cut("abc", 4) == "abc" and cut("abc", 0) == "abc"
    assert cut("模型模型", 4) == "模…"
    assert printable("a\tb\x07c\u202ed") == "a b?c?d"
    assert paint("", "31") == "" and paint("x", "") == "x"


def test_quantities_are_short() -> None:
    assert [ago(s) for s in (-1, 0, 59, 60, 7200, 200_000)] == ["0s", "0s", "59s", "1m", "2h", "2d"]
    assert [milliseconds(v) for v in (None, 0.26, 9.97, 12.4, 999.6, 1500, 60_000)] == [
        "-", "0.3ms", "10ms", "12ms", "1.0s", "1.5s", "60s",
    ]  # fmt: skip
    assert [rate(v) for v in (None, 0.04, 9.96, 1234.5)] == ["-", "0.0", "10", "1234"]
    assert [size(v) for v in (None, 12, 2048, 3 * 2**29)] == ["-", "12", "2.0Ki", "1.5Gi"]
    assert [count(v) for v in (0, 99_999, 100_000, 1_234_567, 5 * 10**9)] == [
        "0", "99999", "100k", "1.2M", "5.0G",
    ]  # fmt: skip


def test_what_would_move_the_cursor_is_written_out() -> None:
    assert escaped("a\tb\x1b[2J\u202e ö\r") == "a\tb\\x1b[2J\\u202e ö\\r"
    assert escaped("plain") == "plain"
