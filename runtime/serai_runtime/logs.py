"""Structured event lines on standard output, the same in every process of the runtime."""

import contextvars
import json
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from serai_runtime import clock
from serai_runtime.errors import in_words

if TYPE_CHECKING:
    import logging

Facts = dict[str, Any]

request_id_now: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""The request that is being worked on, on the loop or on a thread: for log lines."""


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
            told = " ".join(f"{key}={value}" for key, value in facts.items() if value is not None)
            line = f"{at} {level:7} {event} {told}".rstrip() + (f"\n{trace}" if trace else "")
        try:
            # One write, so that lines of several processes on one pipe do not mix.
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # whoever read the log has gone; serving matters more

    def failure(self, event: str, error: BaseException, **facts: Any) -> None:
        """Write an event with the trace of an error."""
        trace = "".join(traceback.format_exception(error))
        self(event, level="error", why=in_words(error), trace=trace, **facts)


def take_over_logging(log: Log) -> None:
    """Send what the predictor and its libraries log to `log`, with the request's id.

    A predictor that sets logging up itself (`basicConfig(force=True)`, `dictConfig`) is let.
    """
    import logging

    class Bridge(logging.Handler):
        def emit(self, record: "logging.LogRecord") -> None:
            facts: Facts = {"logger": record.name}
            if request_id := request_id_now.get():
                facts["request_id"] = request_id
            if record.exc_info and record.exc_info[1] is not None:
                facts["trace"] = "".join(traceback.format_exception(record.exc_info[1]))
            try:
                message = record.getMessage()
            except (TypeError, ValueError, LookupError, AttributeError):  # as logging, never raise
                facts["why"] = "the arguments do not fit the message"
                message = str(record.msg)
            log(message, level=record.levelname.lower(), **facts)

    root = logging.getLogger()
    root.addHandler(Bridge())
    root.setLevel(logging.INFO)
    # What clients send wrong is answered with 400; a trace for each would fill the log.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
