"""The HTTP side of one process, on aiohttp's low-level server: no router, no middleware.

Everything but the three probes goes to the predictor.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isasyncgen, isgenerator
from typing import Any, cast

from aiohttp import web
from aiohttp.web_exceptions import HTTPException
from multidict import istr

from serai_runtime import clock
from serai_runtime.answer import JSON, NotSerialisable, body_of, error_body
from serai_runtime.deadline import Deadlines
from serai_runtime.errors import HTTPError, Overloaded, PredictorError, RefusedRequest
from serai_runtime.incoming import headers_of, payload_of, query_of
from serai_runtime.logs import Log, request_id_now
from serai_runtime.metrics import Metrics, render
from serai_runtime.options import Options
from serai_runtime.pool import Pool
from serai_runtime.raw import RawAnswer, RawAnswers
from serai_runtime.request_id import RequestIds
from serai_runtime.service import Service
from serai_runtime.slots import Slots
from serai_runtime.state import Phase, WorkerState
from serai_runtime.stream import ThreadIterator, send

TIMEOUT_HEADER = istr("X-Serai-Total-Timeout-Ms")
REQUEST_ID = istr("X-Request-Id")
RETRY_AFTER_S = "1"
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
MAX_TIMEOUT_S = 86_400.0
MOST_ARRIVING = 64
"""How many requests may have their bodies on the way, besides those that run and wait."""
UNSENDABLE = (
    HTTPException,
    ValueError,
    TypeError,
    RuntimeError,
    AssertionError,
    LookupError,
    AttributeError,
)
"""What aiohttp raises for a response with a header, status or body that it cannot send."""
GONE = 499
"""The status under which a request is counted whose client hung up."""


class Server:
    """Answers requests; `service` is None until the predictor has been loaded."""

    def __init__(self, options: Options, state: WorkerState, log: Log, pool: Pool) -> None:
        self.metrics = Metrics()
        self.service: Service | None = None
        self._call: Callable[[dict[str, Any]], Awaitable[Any]] | None = None
        self._options = options
        self._state = state
        self._log = log
        self._pool = pool
        self._ids = RequestIds()
        self._raw = RawAnswers()
        self._deadlines = Deadlines()
        self._slots = Slots(1)
        self._sending = 0
        self._after: set[asyncio.Task[None]] = set()
        pool.on_abandoned_end = self._recount_abandoned

    def serve_with(self, service: Service, concurrency: int) -> None:
        """Begin to pass requests to a predictor, at most `concurrency` of them at once."""
        self._slots = Slots(concurrency)
        self.service = service
        self._call = service.call_alone

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.raw_path.partition("?")[0]
        if path in PROBES and request.method in ("GET", "HEAD"):
            return await self._probe(path)
        began_s = clock.now_s()
        request_id = self._ids.take(request.headers.get(REQUEST_ID))
        status = GONE
        self._state.open_requests += 1
        opened = True
        try:
            response = await self._answer(request, request_id, began_s)
            self._state.open_requests -= 1
            opened = False
            # A client that reads slowly takes no slot, but its answer is not finished yet.
            self._sending += 1
            try:
                response = await self._sent(request, response, request_id)
            finally:
                self._sending -= 1
            status = response.status
        finally:
            self._state.open_requests -= opened
            took_s = clock.now_s() - began_s
            self.metrics.finished(status, took_s)
            if self._options.access_log:
                facts: dict[str, Any] = {"method": request.method, "path": path, "status": status}
                took_ms = round(took_s * 1000, 3)
                self._log("request", request_id=request_id, took_ms=took_ms, **facts)
        return response

    async def _sent(
        self, request: web.BaseRequest, response: web.StreamResponse, request_id: str
    ) -> web.StreamResponse:
        """Send an answer that aiohttp writes; one that cannot be sent becomes a 500."""
        if isinstance(response, RawAnswer):
            return response
        try:
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            pass  # the client has gone: aiohttp notices it, too
        except UNSENDABLE as error:
            return await self._unsendable(request, response, error, request_id)
        return response

    async def _unsendable(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        error: Exception,
        request_id: str,
    ) -> web.StreamResponse:
        """Tell what is wrong with the user's response where nothing of it has been sent."""
        failure = self._failure(error, request_id)
        if not (response.prepared and response.body_length):
            assert isinstance(failure.body, bytes)
            raw = self._raw.make(request, failure.status, failure.body, JSON, request_id, True)
            if raw is not None:
                await raw.prepare(request)
        if request.transport is not None:
            request.transport.close()
        return failure

    # Probes --------------------------------------------------------------------------------------

    async def _probe(self, path: str) -> web.Response:
        phase = self._state.phase
        if path == "/metrics":
            self.metrics.in_flight = self._state.open_requests
            # The first scrape imports a library: on a thread, so that no request waits for it.
            loop = asyncio.get_running_loop()
            body, kind = await loop.run_in_executor(None, render, self.metrics)
            response = web.Response(body=body, headers={"Content-Type": kind})
        elif path == "/healthz":
            response = _json(200, b'{"status":"alive"}')
        else:
            status = 200 if phase is Phase.READY else 503
            response = _json(status, b'{"phase":"%s"}' % phase.value.encode())
        return cast(web.Response, self._closing_when_draining(response))

    def _closing_when_draining(self, response: web.StreamResponse) -> web.StreamResponse:
        # A client that is told so sends its next request elsewhere instead of into a closed socket.
        if self._draining() and not response.prepared:
            response.force_close()
        return response

    def _draining(self) -> bool:
        return self._state.phase is Phase.DRAINING

    # One request ---------------------------------------------------------------------------------

    async def _answer(
        self, request: web.BaseRequest, request_id: str, began_s: float
    ) -> web.StreamResponse:
        if self._call is None:
            return self._error(503, "loading", f"the predictor is {self._state.phase}", request_id)
        task = asyncio.current_task()
        assert task is not None
        deadline = self._deadlines.start(task, began_s + self._timeout_of(request))
        try:
            return await self._within_limits(request, request_id)
        except asyncio.CancelledError as error:
            if not task.cancelling():  # nobody cancelled us: it came out of the predictor
                return self._failure(error, request_id)
            if not deadline.passed or task.uncancel() > 0:
                raise  # the client has gone
            self._log("request timed out", level="warning", request_id=request_id)
            why = "the request took longer than allowed"
            return self._error(504, "timeout", why, request_id)
        except RefusedRequest as refused:
            return self._error(refused.status, refused.code, str(refused), request_id)
        except (HTTPError, HTTPException) as error:
            return self._users_error(error, request_id)
        except Exception as error:  # noqa: BLE001  # the user's predictor may raise anything
            return self._failure(error, request_id)
        finally:
            self._deadlines.end(deadline)

    async def _within_limits(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        """Read the body, wait for a slot, predict, answer."""
        service, call, slots = self.service, self._call, self._slots
        assert service is not None and call is not None
        room = slots.limit + self._options.queue
        if slots.taken >= room or self._state.open_requests > room + MOST_ARRIVING:
            raise Overloaded
        offered: dict[str, Any] = {
            "payload": await payload_of(request, self._options.body_max_bytes)
        }
        if service.wants_more:
            offered["query_params"] = query_of(request)
            offered["headers"] = headers_of(request)
        if not slots.try_enter():
            if slots.taken >= room:
                raise Overloaded  # others came first while this one's body was on its way
            await slots.enter()
        request_id_now.set(request_id)
        try:
            result = await call(offered)
            response = await self._respond(request, result, request_id)
        except asyncio.CancelledError:
            self._recount_abandoned()
            raise
        finally:
            slots.leave()
        if service.predictor.post_predict is not None:
            with contextlib.suppress(ConnectionError):  # the client has gone: no matter here
                await response.prepare(request)
                await response.write_eof()
            self._run_after(offered, result, request_id)
        return response

    def _timeout_of(self, request: web.BaseRequest) -> float:
        told = request.headers.get(TIMEOUT_HEADER)
        if told is None or not (told.isascii() and told.isdigit() and len(told) <= 12):
            return self._options.total_timeout_s
        return min(int(told) / 1000, MAX_TIMEOUT_S)

    def _recount_abandoned(self) -> None:
        self._slots.abandoned = self._pool.abandoned()
        self._slots.admit()

    async def _respond(
        self, request: web.BaseRequest, result: Any, request_id: str
    ) -> web.StreamResponse:
        if isinstance(result, web.StreamResponse):
            if result.prepared:
                raise NotSerialisable(
                    "predict returned an aiohttp Response that has been sent already: make a new "
                    "one for each request"
                )
            if not 200 <= result.status <= 599:
                raise NotSerialisable(
                    f"predict returned a response with status {result.status}; use 200 to 599"
                )
            result.headers[REQUEST_ID] = request_id
            return self._closing_when_draining(result)
        stream = self._stream_of(result)
        if stream is not None:
            headers = {"X-Request-Id": request_id}
            return await send(request, stream, headers, self._draining, self._log)
        body, kind = body_of(result)
        raw = self._raw.make(request, 200, body, kind, request_id, self._draining())
        if raw is not None:
            return cast(web.StreamResponse, raw)
        headers = {"Content-Type": kind, "X-Request-Id": request_id}
        return self._closing_when_draining(web.Response(body=body, headers=headers))

    def _stream_of(self, result: Any) -> AsyncIterator[Any] | None:
        if isgenerator(result):
            return ThreadIterator(result, self._pool)
        if isasyncgen(result) or hasattr(type(result), "__anext__"):
            stream: AsyncIterator[Any] = result
            return stream
        return None

    # Errors --------------------------------------------------------------------------------------

    def _error(self, status: int, code: str, message: str, request_id: str) -> web.Response:
        response = _json(status, error_body(code, message, request_id))
        response.headers[REQUEST_ID] = request_id
        if status == 503:
            response.headers["Retry-After"] = RETRY_AFTER_S
        self._closing_when_draining(response)
        return response

    def _users_error(self, error: HTTPError | HTTPException, request_id: str) -> web.StreamResponse:
        if isinstance(error, HTTPError):
            response = self._error(error.status, "predictor", error.detail, request_id)
            response.headers.update(error.headers)
            return response
        if error.status < 400:
            answer = web.Response(status=error.status, headers=error.headers, body=error.body)
            answer.headers[REQUEST_ID] = request_id
            return answer
        return self._error(error.status, "predictor", error.text or error.reason, request_id)

    def _failure(self, error: BaseException, request_id: str) -> web.Response:
        self._log.failure("predict failed", error, request_id=request_id)
        if isinstance(error, NotSerialisable | PredictorError):
            message = f"{error} (see the log of request {request_id})"
        else:
            message = f"the predictor failed; its log has the trace of request {request_id}"
        return self._error(500, "predictor_failed", message, request_id)

    def _run_after(self, offered: dict[str, Any], response: Any, request_id: str) -> None:
        async def run() -> None:
            assert self.service is not None
            limit_s = self._options.total_timeout_s
            try:
                async with asyncio.timeout(limit_s) as limit:
                    await self.service.after(offered, response)
            except Exception as error:  # noqa: BLE001  # the user's predictor may raise anything
                if limit.expired():
                    # Its thread is not free yet: it counts as one that somebody has given up.
                    self._recount_abandoned()
                    why = f"it did not end within {limit_s:g} s"
                    facts: dict[str, Any] = {"request_id": request_id, "why": why}
                    self._log("post_predict failed", level="error", **facts)
                    return
                self._log.failure("post_predict failed", error, request_id=request_id)

        task = asyncio.get_running_loop().create_task(run())
        self._after.add(task)
        task.add_done_callback(self._after.discard)

    @property
    def unfinished(self) -> int:
        """How many requests and `post_predict` calls have not ended yet."""
        return self._state.open_requests + self._sending + len(self._after)


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": JSON})
