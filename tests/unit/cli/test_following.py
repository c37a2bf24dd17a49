"""What `serai logs` writes: raw where a program reads it, harmless where a person does."""

import pytest

from serai.engine import LogLine
from serai_cli.following import show

TEXT = "one\x1b[2Jtwo\rthree"
SLY = LogLine(at_s=1.0, replica="iris.v1.1", version="v1", stream="out", text=TEXT)


@pytest.mark.parametrize(
    ("as_json", "on_terminal", "expected"),
    [
        (False, True, "one\\x1b[2Jtwo\\rthree"),
        (False, False, SLY.text),
        (True, True, "one\\u001b[2Jtwo\\rthree"),
    ],
)
def test_control_characters_reach_no_terminal(
    as_json: bool, on_terminal: bool, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show(iter([SLY]), as_json, on_terminal)
    assert expected in capsys.readouterr().out
