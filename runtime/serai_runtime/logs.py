"""Structured event lines on standard output, the same in every process of the runtime."""

import json
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

from serai_runtime import clock

Facts = dict[str, Any]


class Log:
    """Writes one line per event: JSON, or text for people."""

    def __init__(self, style: str, facts: Facts, stream: TextIO | None = None) -> None:
        self._style = style
        self._facts = {key: value for key, value in facts.items() if value not in ("", None)}
        self._stream = stream or sys.stdout

    def __call__(self, event: str, level: str = "info", **facts: Any) -> None:
        at = datetime.fromtimestamp(clock.wall_s(), UTC).isoformat(timespec="milliseconds")
        if self._style == "json":
            line = json.dumps(
                {"at": at, "level": level, "event": event, **self._facts, **facts}, default=str
            )
        else:
            trace = facts.pop("trace", "")
            told = " ".join(f"{key}={value}" for key, value in facts.items())
            line = f"{at} {level:7} {event} {told}".rstrip() + (f"\n{trace}" if trace else "")
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except OSError:
            return  # whoever read the log has gone; serving matters more

    def failure(self, event: str, error: BaseException, **facts: Any) -> None:
        """Write an event with the trace of an error."""
        trace = "".join(traceback.format_exception(error))
        self(event, level="error", why=f"{type(error).__name__}: {error}", trace=trace, **facts)
