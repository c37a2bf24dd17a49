"""Passing a call on to the leader, and its answer back, both as streams."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Self

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from serai.certificates import why_no_tls
from serai.clock import Clock
from serai.consul.leader import Leader
from serai.consul.leader_book import LeaderBook
from serai.errors import Refused, Unavailable
from serai.tasks import cancelled
from serai_scheduler.api.handlers import follows
from serai_scheduler.blobs.peer import TLS_KEYS
from serai_scheduler.leadership import NoLeader

PASSED_ON = "Serai-Passed-On"
"""Stands on what was passed on once: that is never passed on again."""
CONNECT_LIMIT_S = 3.0
SILENCE_LIMIT_S = 900.0
"""For an answer that takes the leader long, as putting a large file together does."""
LAST_WORDS_S = 5.0
"""How long a leader that leads no more may still take for what it was asked before."""
MAX_CALLS = 512
PIECE_BYTES = 2**16

HOP_BY_HOP = frozenset(
    name.lower()
    for name in (
        hdrs.CONNECTION, hdrs.KEEP_ALIVE, hdrs.PROXY_AUTHENTICATE, hdrs.PROXY_AUTHORIZATION,
        hdrs.TE, hdrs.TRAILER, hdrs.TRANSFER_ENCODING, hdrs.UPGRADE, hdrs.EXPECT, hdrs.HOST,
    )
)  # fmt: skip
ADDED_BY_CLIENT = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.USER_AGENT, hdrs.CONTENT_TYPE)


class LeaderUnknown(NoLeader):
    """Consul does not tell who leads, and never has since the start: it has no records, either."""


class Forwarder:
    """Calls the leader for others, for an `async with` block; `own` is this scheduler's address.

    `trust` says which certificates of the others are trusted, None for the system's; `why_not` why
    this scheduler cannot lead itself, "" for no reason.
    """

    def __init__(
        self,
        book: LeaderBook,
        clock: Clock,
        own: str,
        trust: ssl.SSLContext | None,
        why_not: Callable[[], str] = lambda: "",
    ) -> None:
        self._book = book
        self._clock = clock
        self._own = own
        self._why_not = why_not
        self._calls = 0
        self._closing = asyncio.Event()
        connector = aiohttp.TCPConnector(
            limit=MAX_CALLS, force_close=True, ssl=True if trust is None else trust
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            skip_auto_headers=ADDED_BY_CLIENT,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_LIMIT_S, sock_read=SILENCE_LIMIT_S
            ),
        )
        # A body can be read only once: what failed is not sent a second time.
        self._session._retry_connection = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def end_streams(self) -> None:
        """End the answers that have no end of their own: this process is about to end."""
        self._closing.set()

    async def pass_on(self, request: web.Request, answer_s: float | None) -> web.StreamResponse:
        """Return the leader's answer, which may take `answer_s` to begin (None: long).

        Raises NoLeader when nobody is known to lead, or cannot be reached, and nothing was done;
        Unavailable when the leader went away in the middle, so that something may have been.
        """
        leader = self._leader(request)
        if self._calls >= MAX_CALLS:
            raise NoLeader(f"{MAX_CALLS} calls are passed on to the leader already; ask again")
        self._calls += 1
        call = _Call(request, leader, self._session)
        running = asyncio.ensure_future(call.run(answer_s))
        gone = asyncio.ensure_future(self._gone(call))
        try:
            await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            await cancelled(running)
            return await call.end()
        finally:
            self._calls -= 1
            await cancelled(running, gone)

    def _leader(self, request: web.Request) -> Leader:
        leader = self._book.known
        if leader is None and self._book.why:
            raise LeaderUnknown(f"this scheduler cannot find out who leads: {self._book.why}")
        if leader is None:
            if why := self._why_not():
                raise NoLeader(f"no scheduler leads at this moment, and this one cannot: {why}")
            raise NoLeader("no scheduler leads at this moment; one will within seconds: ask again")
        if leader.address == self._own:
            raise NoLeader(
                "this scheduler just begins or ends to lead; ask again "
                f"(if that stays so, another one has the same `advertise`, {self._own}, or "
                "Consul answers it too slowly, as its log says)"
            )
        if PASSED_ON in request.headers:
            raise NoLeader("the scheduler that was taken for the leader leads no more; ask again")
        return leader

    async def _gone(self, call: "_Call") -> None:
        """Return once the call is no longer worth its wait."""
        ends: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._book.other_than(call.leader))
        ]
        if call.endless:
            ends.append(asyncio.ensure_future(self._closing.wait()))
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelled(*ends)
        if not call.endless:
            await self._clock.sleep(LAST_WORDS_S)


class _Call:
    """One call on its way to the leader and back."""

    def __init__(
        self, request: web.Request, leader: Leader, session: aiohttp.ClientSession
    ) -> None:
        self.leader = leader
        self.endless = is_endless(request)
        self._request = request
        self._session = session
        self._answer: web.StreamResponse | None = None

    async def run(self, answer_s: float | None) -> web.StreamResponse:
        """Return the answer, sent already; raises as `Forwarder.pass_on`."""
        try:
            async with asyncio.timeout(answer_s) as limit:
                upstream = await self._ask()
                limit.reschedule(None)
                async with upstream:
                    return await self._pass_back(upstream)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            told = why_no_tls(error, TLS_KEYS) or f"{error}; ask again"
            why = f"the leader at {self.leader.address} cannot be reached: {told}"
            raise NoLeader(why) from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise self.broken(str(error) or "no answer in time") from error

    async def _ask(self) -> aiohttp.ClientResponse:
        request = self._request
        headers = passed_headers(request.headers)
        headers[PASSED_ON] = "1"
        if hdrs.CONTENT_ENCODING in headers:  # the body was unpacked on its way here
            headers.popall(hdrs.CONTENT_ENCODING)
            headers.popall(hdrs.CONTENT_LENGTH, None)
        path, _, query = request.raw_path.partition("?")
        if not path.startswith("/"):
            raise Refused("the request line should hold a path", "not_found")
        # Joined as text: a path that begins with two slashes would else name another host.
        url = URL(f"{self.leader.address}{path}{'?' if query else ''}{query}", encoded=True)
        body = self._body() if request.can_read_body else None
        return await self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        )

    async def _body(self) -> AsyncIterator[bytes]:
        async for piece in self._request.content.iter_chunked(PIECE_BYTES):
            yield piece

    async def _pass_back(self, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = passed_headers(upstream.headers)
        answer = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
        await answer.prepare(self._request)
        self._answer = answer
        async for piece in upstream.content.iter_any():
            await answer.write(piece)
        await answer.write_eof()
        return answer

    async def end(self) -> web.StreamResponse:
        """Return an answer without an end of its own, ended; raises as `broken` when none began."""
        if self._answer is None or not self.endless:
            raise self.broken("it leads no more")
        await self._answer.write_eof()
        return self._answer

    def broken(self, why: str) -> Exception:
        """Return what to raise when the leader went away."""
        if self._answer is not None:  # half an answer may not look like a whole one
            if self._request.transport is not None:
                self._request.transport.abort()
            return ConnectionResetError(why)
        where = f"the leader at {self.leader.address}"
        if self._request.method in (hdrs.METH_GET, hdrs.METH_HEAD):
            return NoLeader(f"{where} does not answer: {why}; ask again")
        return Unavailable(
            f"{where} went away before it answered ({why}); what was asked may have been done: "
            "look, or ask again"
        )


def passed_headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers that concern both ends, not only one connection."""
    names = headers.get(hdrs.CONNECTION, "").split(",")
    dropped = HOP_BY_HOP | {name.strip().lower() for name in names}
    return CIMultiDict((k, v) for k, v in headers.items() if k.lower() not in dropped)


def is_endless(request: web.Request) -> bool:
    """Say whether a call's answer goes on until its reader leaves."""
    return request.path.endswith("/logs") and follows(request)
