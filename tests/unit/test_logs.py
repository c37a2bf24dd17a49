"""Event lines: total, bounded, and readable by machine or person."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serai.logs import Form, setup


@pytest.fixture(autouse=True)
def restored_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(form: Form = "json", level: str = "info") -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    setup("agent", form, level, stream)
    return logging.getLogger("serai.test"), stream


def test_json_holds_the_event_and_its_facts() -> None:
    log, stream = lines()
    log.warning("replica ended", extra={"replica": "iris-1", "exit_code": 137, "oom": True})
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "component": "agent",
        "logger": "serai.test",
        "event": "replica ended",
        "replica": "iris-1",
        "exit_code": 137,
        "oom": True,
    }


@pytest.mark.parametrize(
    ("fact", "shown"),
    [
        (float("nan"), "nan"),
        (Path("/a"), "/a"),
        ({"a": {1: (None, 2.5)}}, {"a": {"1": [None, 2.5]}}),
        ("\udcff", "\\udcff"),
        (b"x", "b'x'"),
        ("two\nlines", "two\nlines"),
        (2**200, 2**200),
    ],
)
def test_any_fact_can_be_told(fact: object, shown: object) -> None:
    log, stream = lines()
    log.info("told", extra={"fact": fact})
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue())["fact"] == shown


def test_a_long_fact_and_a_deep_one_are_cut() -> None:
    deep: list[object] = []
    deep.append(deep)
    log, stream = lines()
    log.info("told", extra={"long": "x" * 100_000, "wide": list(range(10_000)), "deep": deep})
    line = json.loads(stream.getvalue())
    assert line["long"].endswith("(100000 characters)")
    assert len(line["wide"]) == 50
    assert len(stream.getvalue()) < 10_000


def test_a_fact_does_not_hide_a_key_of_ours() -> None:
    log, stream = lines()
    log.info("told", extra={"event": "mine", "level": 3})
    line = json.loads(stream.getvalue())
    assert (line["event"], line["event_"], line["level"], line["level_"]) == (
        "told",
        "mine",
        "info",
        3,
    )


def test_a_trace_is_told() -> None:
    log, stream = lines()
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    assert "ValueError: why" in json.loads(stream.getvalue())["trace"]


def test_a_long_trace_keeps_its_end() -> None:
    log, stream = lines()
    try:
        raise ValueError("x" * 50_000 + "the cause")
    except ValueError:
        log.exception("failed")
    trace = json.loads(stream.getvalue())["trace"]
    assert trace.endswith("the cause")
    assert len(trace) < 20_000


def test_text_is_one_readable_line() -> None:
    log, stream = lines("text")
    log.info("replica ready", extra={"replica": "iris-1", "why": "probe answered", "after_s": 0.5})
    line = stream.getvalue()
    assert line[2] == line[5] == ":"
    expected = 'info    replica ready  replica=iris-1 why="probe answered" after_s=0.5\n'
    assert line[9:] == expected


def test_the_level_holds_and_a_second_setup_replaces_the_first() -> None:
    _, first = lines()
    log, second = lines(level="error")
    log.info("not told")
    log.error("told")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        setup("agent", level="loud", stream=sys.stderr)
