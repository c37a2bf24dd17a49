"""What a predictor raises on purpose, and what is wrong with a predictor itself."""

from collections.abc import Mapping
from traceback import TracebackException
from typing import ClassVar


class HTTPError(Exception):
    """Raise it in a predictor to answer with this status; `detail` becomes the message."""

    def __init__(
        self, status: int, detail: str = "", headers: Mapping[str, object] | None = None
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"HTTPError is for 400 to 599, not {status}")
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = {name: str(value) for name, value in (headers or {}).items()}
        for name, value in self.headers.items():
            if any(mark in name + value for mark in "\r\n\0"):
                raise ValueError(f"a header of HTTPError must be one line: {name!r}: {value!r}")


MESSAGE_CHARS = 4000
"""How much of an error's message is told: some hold a whole array or a file."""


def in_words(error: BaseException) -> str:
    """Return an error's name and message, cut short, even when it cannot say its message."""
    # Not by `str`: the user's error may raise anything while it is told.
    message = str(TracebackException(type(error), error, None))
    if len(message) > MESSAGE_CHARS:
        message = message[:MESSAGE_CHARS] + f"… ({len(message)} characters)"
    return f"{type(error).__name__}: {message}"


class PredictorError(Exception):
    """The predictor cannot be used; the message tells its author what to change."""


class RefusedRequest(Exception):
    """A request that reaches no predictor: the answer's status and code, and why."""

    status: ClassVar[int]
    code: ClassVar[str]


class BodyError(RefusedRequest):
    """The request's body cannot be read as what its content type says."""

    status, code = 400, "bad_body"


class BodyTooLarge(RefusedRequest):
    """The request's body is larger than what is allowed."""

    status, code = 413, "body_too_large"


class BodyTooSlow(RefusedRequest):
    """The request's body drips."""

    status, code = 408, "body_too_slow"


class Overloaded(RefusedRequest):
    """All slots and the queue behind them are taken."""

    status, code = 503, "overloaded"

    def __init__(self) -> None:
        super().__init__("all slots of this replica and its queue are taken; try again")
