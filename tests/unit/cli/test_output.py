"""Drawing in place, and plain lines where nobody looks."""

import io

import pytest

from serai_cli.forms import Form
from serai_cli.output import Redrawn, show


class Terminal(io.StringIO):
    """Keeps what a terminal would be sent."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_only_new_lines_are_written() -> None:
    stream = io.StringIO()
    drawn = Redrawn(stream)
    for lines in (["head", "a"], ["head", "a"], ["head", "b"]):
        drawn.draw(lines)
    assert stream.getvalue() == "head\na\nb\n"


def test_on_a_terminal_lines_are_drawn_over_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    drawn = Redrawn(stream)
    drawn.draw(["one", "two"])
    assert "\x1b[2F" not in stream.getvalue()
    drawn.draw(["three"])
    assert "\x1b[2Fthree\x1b[K\n\x1b[J" in stream.getvalue()


def test_more_lines_than_the_terminal_has_are_cut_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LINES", "5")
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    Redrawn(stream).draw([str(n) for n in range(10)])
    shown = stream.getvalue().count("\n")
    assert shown == 4 and "(7 more lines; make the window higher)" in stream.getvalue()


def test_yaml_keeps_a_space_at_the_end_of_its_last_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show({"key": "a\xa0"}, [], Form.YAML)
    assert capsys.readouterr().out == "key: a\xa0\n"
