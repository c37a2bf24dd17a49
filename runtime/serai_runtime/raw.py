"""Answers that are written in one piece, past aiohttp's response objects.

A small answer with known headers needs no header map, no payload writer and no compression: this
is what lets a predictor be as fast as a bare handler. aiohttp asks a handler's answer for
`prepare`, `write_eof` and `keep_alive` only, which is all that is given here.
"""

from email.utils import formatdate
from http import HTTPStatus

from aiohttp import HttpVersion11, web

from serai_runtime import clock

LARGEST_BYTES = 65_536
"""Larger bodies go through aiohttp, which waits for slow clients."""

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class RawAnswer:
    """A whole answer as bytes."""

    __slots__ = ("_data", "keep_alive", "status")

    def __init__(self, status: int, data: bytes, keep_alive: bool) -> None:
        self.status = status
        self.keep_alive = keep_alive
        self._data = data

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send everything, once; raise ConnectionResetError when the client has gone."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        if self._data:
            transport.write(self._data)
            self._data = b""  # aiohttp prepares again what has been prepared before

    async def write_eof(self) -> None:
        """Everything has been sent already."""


class RawAnswers:
    """Makes raw answers; the date is written anew once a second at most."""

    def __init__(self) -> None:
        self._second = -1
        self._date = ""

    def make(
        self, request: web.BaseRequest, status: int, body: bytes, kind: str, request_id: str,
        close: bool,
    ) -> RawAnswer | None:  # fmt: skip
        """Return an answer, or None when this request is better answered by aiohttp."""
        if (
            len(body) > LARGEST_BYTES
            or request.version != HttpVersion11
            or request.method == "HEAD"
            or request.protocol.writing_paused
        ):
            return None
        keep_alive = request.keep_alive and not close
        head = (
            f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-Id: {request_id}\r\nDate: {self._now()}\r\n"
            f"{'' if keep_alive else 'Connection: close' + chr(13) + chr(10)}\r\n"
        )
        return RawAnswer(status, head.encode("latin-1") + body, keep_alive)

    def _now(self) -> str:
        second = int(clock.wall_s())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date
