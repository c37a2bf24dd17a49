"""Answers `/<endpoint>/_serai/wake`, which HAProxy passes on: wakes the API and tells how it comes.

Its callers are the gateway's, who need not know which node or program is at fault: they are told
phases and times, and no reasons.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

from aiohttp import web

from serai import http, wire
from serai.clock import Clock
from serai.errors import ConfigError, Refused, Unavailable
from serai.model import Value
from serai.waking import ENDS, WakePhase, WakeProgress
from serai_agent.edge.config import WAKE_SOCKET
from serai_agent.edge.socket import reachable

STREAM_LIMIT_S = 900.0
"""A reader who still waits then connects again by himself, as browsers do."""
SHUTDOWN_S = 1.0
RECONNECT_MS = 2000
EVENTS = "text/event-stream"


class Waker(Protocol):
    """The scheduler that leads."""

    async def wake(self, api: str) -> None:
        """Ask for a first replica; Refused where there may be none, Unavailable if unheard."""
        ...

    def looks(self, api: str) -> AsyncGenerator[WakeProgress, None]:
        """Yield how far it is, at once and then every few seconds, until an end; errors as above.

        Without an end: nobody leads there any more.
        """
        ...


class WakeState(Value):
    """What a caller is told; `eta_s` is how long it usually takes from now, None if unknown."""

    api: str
    phase: WakePhase
    elapsed_s: float
    eta_s: float | None


class _ErrorBody(Value):
    code: str
    message: str
    request_id: str


class _Error(Value):
    error: _ErrorBody


class WakeDoor:
    """Listens on a socket of the gateway's folder."""

    def __init__(self, folder: Path, waker: Waker, clock: Clock) -> None:
        self._path = folder / WAKE_SOCKET
        self._waker = waker
        self._clock = clock

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Answer for as long as the block lasts; ConfigError when the socket cannot be made."""
        app = web.Application()
        app.router.add_get("/{api}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        try:
            await web.SockSite(runner, _bound(self._path)).start()
            yield
        finally:
            await runner.cleanup()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        api, began_s = request.match_info["api"], self._clock.now()
        try:
            await self._waker.wake(api)
            async with aclosing(self._waker.looks(api)) as looks:
                if EVENTS in request.headers.get("Accept", ""):
                    return await self._stream(request, looks, began_s)
                async for now in looks:
                    return http.answer(self._state(now, began_s))
            raise Unavailable("the scheduler no longer leads")
        except Refused as error:
            return _refused(request, error)
        except Unavailable:
            return _error(
                request, 503, "no_progress", "no scheduler tells how far it is; try again"
            )

    async def _stream(
        self, request: web.Request, looks: AsyncIterator[WakeProgress], began_s: float
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": EVENTS})
        # A reader who has gone is nobody to tell; one whose stream breaks off comes again.
        with suppress(ConnectionError, TimeoutError, Unavailable):
            async with asyncio.timeout(STREAM_LIMIT_S):
                async for now in looks:
                    if not response.prepared:
                        await response.prepare(request)
                        await response.write(f"retry: {RECONNECT_MS}\n\n".encode())
                    await response.write(event(self._state(now, began_s)))
        if not response.prepared:
            raise Unavailable("nothing was told")
        return response

    def _state(self, now: WakeProgress, began_s: float) -> WakeState:
        elapsed_s = round(self._clock.now() - began_s, 1)
        return WakeState(api=now.api, phase=now.phase, elapsed_s=elapsed_s, eta_s=now.eta_s)


def event(state: WakeState) -> bytes:
    """Return a state as a server-sent event, named `progress` or, at the end, by its phase."""
    name = state.phase.value if state.phase in ENDS else "progress"
    return b"event: %s\ndata: %s\n\n" % (name.encode(), wire.encode(state))


def _bound(path: Path) -> socket.socket:
    """Bind anew, where a running HAProxy finds it by its path."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        with reachable(path) as short:
            made.bind(short)
    except OSError as error:
        made.close()
        raise ConfigError(
            f"cannot listen for callers who wake APIs at {path}: {error.strerror}; "
            "make the folder writable"
        ) from error
    return made


def _refused(request: web.Request, error: Refused) -> web.Response:
    if error.code == "not_found":
        return _error(request, 404, "not_found", "no API has this path")
    if error.code == "not_woken":
        return _error(request, 409, "not_woken", "this API is set to have no replica now")
    return _error(request, 503, "no_progress", "no scheduler tells how far it is; try again")


def _error(request: web.Request, status: int, code: str, message: str) -> web.Response:
    request_id = request.headers.get("x-request-id", "")
    body = _Error(error=_ErrorBody(code=code, message=message, request_id=request_id))
    return http.answer(body, status)
