"""Logs are events: a constant lower-case message, and the facts of the case in `extra`.

JSON for machines, readable lines for terminals; both are total (they never raise for a strange
fact) and bounded (a long fact is cut), since a log line must not become the fault it tells of.
"""

import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, TextIO

Form = Literal["json", "text"]

MAX_TEXT = 4096
MAX_TRACE = 16_384
MAX_ITEMS = 50
MAX_DEPTH = 4

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OURS = frozenset({"time", "level", "component", "logger", "event", "trace"})

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


def setup(
    component: str, form: Form = "json", level: str = "info", stream: TextIO | None = None
) -> logging.Handler:
    """Send every event of this process to `stream` (stderr), in place of what was set up before.

    `level` is debug, info, warning or error; ValueError for another. Returns the handler.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter(component) if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.setLevel(level.upper())
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    return handler


def facts(record: logging.LogRecord) -> dict[str, Plain]:
    """Return what was given as `extra`, made plain; a fact named as one of our keys gets a `_`."""
    return {
        (f"{key}_" if key in _OURS else key): plain(value)
        for key, value in vars(record).items()
        if key not in _STANDARD
    }


def plain(value: object, depth: int = 0) -> Plain:
    """Return `value` as something that JSON can hold, cut where it is too long or too deep."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {_text(str(key)): plain(item, depth + 1) for key, item in items}
    if depth < MAX_DEPTH and isinstance(value, Sequence | set | frozenset) and _is_list(value):
        return [plain(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    return _text(str(value))


def _is_list(value: object) -> bool:
    return not isinstance(value, str | bytes | bytearray | memoryview)


def _text(text: str, limit: int = MAX_TEXT) -> str:
    """Cut `text`, and show what no encoding can hold (lone surrogates of file names)."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Return the trace, its end kept when it is too long: the cause stands there."""
    if not record.exc_info:
        return ""
    text = formatter.formatException(record.exc_info)
    return _text(text if len(text) <= MAX_TRACE else f"…{text[-MAX_TRACE:]}", MAX_TRACE + 1)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, component, logger, event, then the facts."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Plain] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "component": self._component,
            "logger": record.name,
            "event": _text(record.getMessage()),
        }
        line.update(facts(record))
        if trace := _trace(self, record):
            line["trace"] = trace
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


class TextFormatter(logging.Formatter):
    """One readable line in local time: `14:03:07 warning loop failed  loop=report why="…"`."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).astimezone()
        words = [f"{key}={_word(value)}" for key, value in facts(record).items()]
        head = f"{at:%H:%M:%S} {record.levelname.lower():7} {_text(record.getMessage())}"
        line = "  ".join([head, " ".join(words)]) if words else head
        trace = _trace(self, record)
        return f"{line}\n{trace}" if trace else line


def _word(value: Plain) -> str:
    if isinstance(value, str) and value and not any(c.isspace() or c in '"=' for c in value):
        return value
    return json.dumps(value, ensure_ascii=False)
