"""Sends what a generator yields: server-sent events if the client wants them, else chunks."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from aiohttp import web
from multidict import istr

from serai_runtime.answer import EVENTS, chunk_of, event_of, stream_type
from serai_runtime.logs import Log
from serai_runtime.pool import Pool

ACCEPT = istr("Accept")
END = object()


class ThreadIterator:
    """An async iterator over a plain one, each step of which runs on the pool's threads.

    A thread is taken for a step and not for the stream, so one thread can serve many streams.
    """

    def __init__(self, items: Iterator[Any], pool: Pool) -> None:
        self._items = items
        self._pool = pool
        self._lock = threading.Lock()
        self._stepping = False
        self._closing = False

    def __aiter__(self) -> "ThreadIterator":
        return self

    async def __anext__(self) -> Any:
        item = await self._pool.run(self._step)
        if item is END:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Close the generator, without waiting for a step that hangs: it closes when it ends."""
        with self._lock:
            self._closing = True
            stepping = self._stepping
        if not stepping:
            self._pool.run(self._close)

    def _step(self) -> Any:
        with self._lock:
            if self._closing:
                return END
            self._stepping = True
        try:
            return next(self._items, END)
        finally:
            with self._lock:
                self._stepping = False
                closing = self._closing
            if closing:
                self._close()

    def _close(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


async def send(
    request: web.BaseRequest,
    items: AsyncIterator[Any],
    headers: dict[str, str],
    close_after: Callable[[], bool],
    log: Log,
) -> web.StreamResponse:
    """Send items as they come. Before the first one an error can still become a status.

    An error after that cuts the answer short, so that no client takes it for a whole one.
    """
    events = EVENTS in request.headers.get(ACCEPT, "")
    try:
        first = await anext(items, END)
        kind = EVENTS if events else stream_type(first, nothing=first is END)
        response = web.StreamResponse(
            headers={**headers, "Cache-Control": "no-cache", "Content-Type": kind}
        )
        if close_after():
            response.force_close()
        await response.prepare(request)
        try:
            await _send_all(response, first, items, event_of if events else chunk_of)
        except ConnectionError:
            response.force_close()  # the client has gone
        except Exception as error:  # noqa: BLE001  # the user's generator may raise anything
            log.failure("stream failed", error, request_id=headers["X-Request-Id"])
            await _cut(request, response, "the stream failed" if events else "")
        except asyncio.CancelledError:
            await _cut(request, response, "")
            raise
    finally:
        await _close(items)
    return response


async def _send_all(
    response: web.StreamResponse,
    first: Any,
    items: AsyncIterator[Any],
    form: Callable[[Any], bytes],
) -> None:
    item = first
    while item is not END:
        if data := form(item):  # an empty chunk would end the answer
            await response.write(data)
        item = await anext(items, END)
    await response.write_eof()


async def _cut(request: web.BaseRequest, response: web.StreamResponse, last_words: str) -> None:
    """End the connection without the last chunk: so HTTP says that something is missing."""
    response.force_close()
    transport = request.transport
    if transport is None:
        return
    if last_words and not transport.is_closing():
        with contextlib.suppress(ConnectionError):
            await response.write(b"event: error\n" + event_of(last_words))
    transport.close()


async def _close(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
