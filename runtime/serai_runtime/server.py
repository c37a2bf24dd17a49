"""The HTTP side of one process, on aiohttp's low-level server: no router, no middleware.

Everything but the three probes goes to the predictor.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from inspect import isasyncgen, isgenerator
from typing import Any

from aiohttp import web
from aiohttp.web_exceptions import HTTPException, HTTPRequestEntityTooLarge

from serai_runtime import clock
from serai_runtime.answer import (
    EVENTS,
    JSON,
    NotSerialisable,
    body_of,
    chunk_of,
    error_body,
    event_of,
)
from serai_runtime.errors import BodyError, HTTPError, PredictorError
from serai_runtime.logs import Log
from serai_runtime.metrics import Metrics, render
from serai_runtime.options import Options
from serai_runtime.payload import read
from serai_runtime.request_id import RequestIds
from serai_runtime.service import Service
from serai_runtime.state import Phase, WorkerState

TIMEOUT_HEADER = "X-Serai-Total-Timeout-Ms"
RETRY_AFTER_S = "1"
PROBES = ("/healthz", "/readyz", "/metrics")
MAX_TIMEOUT_S = 86_400.0


class Server:
    """Answers requests; `service` is None until the predictor has been loaded."""

    def __init__(self, options: Options, process: int, state: WorkerState, log: Log) -> None:
        self.metrics = Metrics()
        self.service: Service | None = None
        self._call: Callable[[dict[str, Any]], Awaitable[Any]] | None = None
        self._state = state
        self._log = log
        self._ids = RequestIds()
        self._limit = options.concurrency_of(process) + options.queue
        self._timeout_s = options.total_timeout_s
        self._after: set[asyncio.Task[None]] = set()

    def serve_with(self, service: Service) -> None:
        """Begin to pass requests to a predictor."""
        self.service = service
        self._call = service.call_alone

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.path in PROBES and request.method in ("GET", "HEAD"):
            return self._probe(request.path)
        began_s = clock.now_s()
        request_id = self._ids.take(request.headers.get("X-Request-Id"))
        self._state.open_requests += 1
        response: web.StreamResponse | None = None
        try:
            response = await self._answer(request, request_id)
        finally:
            self._state.open_requests -= 1
            status = response.status if response is not None else 499
            self.metrics.finished(status, clock.now_s() - began_s)
        return response

    # Probes --------------------------------------------------------------------------------------

    def _probe(self, path: str) -> web.Response:
        if path == "/metrics":
            self.metrics.in_flight = self._state.open_requests
            response = web.Response(body=render(self.metrics), content_type="text/plain")
        elif path == "/healthz":
            response = _json(200, b'{"status":"alive"}')
        else:
            ready = self._state.phase is Phase.READY
            response = _json(
                200 if ready else 503, b'{"phase":"%s"}' % self._state.phase.value.encode()
            )
        self._close_when_draining(response)
        return response

    def _close_when_draining(self, response: web.StreamResponse) -> None:
        # A client that is told so sends its next request elsewhere instead of into a closed socket.
        if self._state.phase is Phase.DRAINING:
            response.force_close()

    # One request ---------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        call = self._call
        if call is None:
            return self._error(503, "loading", f"the predictor is {self._state.phase}", request_id)
        if self._state.open_requests > self._limit:
            return self._error(503, "overloaded", "all slots and the queue are taken", request_id)
        try:
            offered = await self._offered(request)
            async with asyncio.timeout(self._timeout_of(request)):
                result = await call(offered)
            response = await self._respond(request, result, request_id)
        except TimeoutError:
            return self._error(504, "timeout", "the request took longer than allowed", request_id)
        except BodyError as error:
            return self._error(400, "bad_body", str(error), request_id)
        except HTTPRequestEntityTooLarge:
            return self._error(413, "body_too_large", "the body is too large", request_id)
        except (HTTPError, HTTPException) as error:
            return self._users_error(error, request_id)
        except Exception as error:  # noqa: BLE001  # the user's predictor may raise anything
            return self._failure(error, request_id)
        if self.service is not None and self.service.predictor.post_predict is not None:
            self._run_after(offered, result, request_id)
        return response

    async def _offered(self, request: web.BaseRequest) -> dict[str, Any]:
        service = self.service
        assert service is not None
        headers = request.headers
        body = await request.read() if request.can_read_body else b""
        offered: dict[str, Any] = {"payload": read(body, headers.get("Content-Type", ""))}
        if service.wants_more:
            offered["query_params"] = _query(request)
            offered["headers"] = {name.lower(): value for name, value in headers.items()}
        return offered

    def _timeout_of(self, request: web.BaseRequest) -> float:
        told = request.headers.get(TIMEOUT_HEADER)
        if told is None or not told.isdigit():
            return self._timeout_s
        return min(int(told) / 1000, MAX_TIMEOUT_S)

    async def _respond(
        self, request: web.BaseRequest, result: Any, request_id: str
    ) -> web.StreamResponse:
        if isasyncgen(result) or hasattr(result, "__anext__"):
            return await self._stream(request, result, request_id)
        if isgenerator(result) and self.service is not None:
            items = await self.service.stream_of(result)
            return await self._stream(request, items, request_id)
        if isinstance(result, web.StreamResponse):
            response: web.StreamResponse = result
        else:
            body, content_type = body_of(result)
            response = web.Response(body=body, headers={"Content-Type": content_type})
        response.headers["X-Request-Id"] = request_id
        self._close_when_draining(response)
        return response

    # Streams -------------------------------------------------------------------------------------

    async def _stream(
        self, request: web.BaseRequest, items: AsyncIterator[Any], request_id: str
    ) -> web.StreamResponse:
        """Send items as they come; an error in the midst cuts the stream short, and is logged."""
        events = EVENTS in request.headers.get("Accept", "")
        write = event_of if events else chunk_of
        first = await anext(items, _END)
        headers = {"X-Request-Id": request_id, "Cache-Control": "no-cache"}
        kind = EVENTS if events else _stream_type(first)
        response = web.StreamResponse(headers={**headers, "Content-Type": kind})
        self._close_when_draining(response)
        await response.prepare(request)
        try:
            item = first
            async with asyncio.timeout(self._timeout_of(request)):
                while item is not _END:
                    await response.write(write(item))
                    item = await anext(items, _END)
            await response.write_eof()
        except ConnectionError:
            await _close(items)
        except Exception as error:  # noqa: BLE001  # the user's generator may raise anything
            self._log.failure("stream failed", error, request_id=request_id)
            if events:
                await response.write(b"event: error\n" + event_of("the stream failed"))
            await _close(items)
            if request.transport is not None:
                request.transport.close()  # an end without the last chunk tells the client
        return response

    # Errors --------------------------------------------------------------------------------------

    def _error(self, status: int, code: str, message: str, request_id: str) -> web.Response:
        response = _json(status, error_body(code, message, request_id))
        response.headers["X-Request-Id"] = request_id
        if status == 503:
            response.headers["Retry-After"] = RETRY_AFTER_S
        self._close_when_draining(response)
        return response

    def _users_error(self, error: HTTPError | HTTPException, request_id: str) -> web.StreamResponse:
        if isinstance(error, HTTPError):
            response = self._error(error.status, "predictor", error.detail, request_id)
            response.headers.update(error.headers)
            return response
        if error.status < 400:
            answer = web.Response(status=error.status, headers=error.headers, body=error.body)
            answer.headers["X-Request-Id"] = request_id
            return answer
        return self._error(error.status, "predictor", error.text or error.reason, request_id)

    def _failure(self, error: Exception, request_id: str) -> web.Response:
        self._log.failure("predict failed", error, request_id=request_id)
        if isinstance(error, NotSerialisable | PredictorError):
            message = f"{error} (see the log of request {request_id})"
        else:
            message = f"the predictor failed; its log has the trace of request {request_id}"
        return self._error(500, "predictor_failed", message, request_id)

    def _run_after(self, offered: dict[str, Any], response: Any, request_id: str) -> None:
        async def run() -> None:
            assert self.service is not None
            try:
                await self.service.after(offered, response)
            except Exception as error:  # noqa: BLE001  # the user's predictor may raise anything
                self._log.failure("post_predict failed", error, request_id=request_id)

        # The response goes out when the handler returns; this task runs after that.
        task = asyncio.get_running_loop().create_task(run())
        self._after.add(task)
        task.add_done_callback(self._after.discard)

    @property
    def unfinished(self) -> int:
        """How many requests and `post_predict` calls have not ended yet."""
        return self._state.open_requests + len(self._after)


_END = object()


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": JSON})


def _query(request: web.BaseRequest) -> dict[str, Any]:
    """Return the query's parameters; one that occurs several times has a list."""
    query = request.query
    return {
        name: values[0] if len(values) == 1 else values
        for name in query
        if (values := query.getall(name))
    }


def _stream_type(first: Any) -> str:
    if isinstance(first, str):
        return "text/plain; charset=utf-8"
    return (
        "application/octet-stream"
        if isinstance(first, bytes | bytearray | memoryview)
        else "application/x-ndjson"
    )


async def _close(items: AsyncIterator[Any] | Iterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
