"""Blobs in the folder of another scheduler, reached over its HTTP interface."""

import asyncio
import math
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar

import aiohttp

from serai import wire
from serai.blobs import (
    BATCH_MAX_BLOBS,
    BATCH_RECORD,
    CHUNK_BYTES,
    PAGE_DIGESTS,
    DiskFull,
    StoredBlob,
    check_digest,
)
from serai.certificates import TlsKeys
from serai.errors import Refused, SeraiError, Unavailable
from serai.http import error_of, read_answer, read_start, translated
from serai.operator import Digests, Done
from serai_scheduler.blobs.peer_routes import LISTED, PEER_BLOBS, Removal, Size

CONNECT_LIMIT_S = 3.0
ANSWER_LIMIT_S = 10.0
IDLE_LIMIT_S = 30.0
"""How long a body may stand still, and its answer take once the last byte was sent."""
DELETE_LIMIT_S = 20.0
MAX_ANSWER_BYTES = 2**16
RUN_BYTES = 2**16
"""What a connection that was given up may still hold: it is closed once that has left."""
MAX_CALLS = 32
"""With each of them."""
GROUP_BYTES = 4 * 2**20
"""Small blobs travel together up to this size, or one more of them."""

TLS_KEYS = TlsKeys(ca="peers_ca", address="peers")

T = TypeVar("T")


def peer_session(trust: ssl.SSLContext | None) -> aiohttp.ClientSession:
    """Return the connections to all other schedulers; `trust` as the forwarder to the leader's."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, limit_per_host=MAX_CALLS, ssl=True if trust is None else trust
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S),
    )
    # A body can be read only once: what failed is not sent a second time.
    session._retry_connection = False
    return session


class PeerBlobs:
    """What the scheduler at `url` itself holds; its other ways to blobs are not asked.

    `token` is the admin's, "" for none.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._base = url + PEER_BLOBS
        self._what = f"the scheduler {url}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def has(self, digests: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()
        for digest in digests:
            check_digest(digest)
        for page in _pages(digests):
            asked = Digests(digests=page)
            lacking = await self._ask("POST", "/missing", Digests, ANSWER_LIMIT_S, asked)
            found |= set(page) - set(lacking.digests)
        return frozenset(found)

    async def put(self, digest: str, stream: AsyncIterator[bytes], size_bytes: int) -> None:
        check_digest(digest)
        await self._send("PUT", f"/{digest}", stream, size_bytes)

    async def put_each(self, contents: AsyncIterator[tuple[str, bytes]]) -> None:
        group: list[tuple[str, bytes]] = []
        held_bytes = 0
        try:
            async for digest, content in contents:
                check_digest(digest)
                group.append((digest, content))
                held_bytes += len(content)
                if held_bytes >= GROUP_BYTES or len(group) >= BATCH_MAX_BLOBS:
                    whole, group, held_bytes = group, [], 0
                    await self._send_batch(whole)
        except SeraiError:
            if group:
                await self._send_batch(group)
            raise
        if group:
            await self._send_batch(group)

    async def _send_batch(self, group: Sequence[tuple[str, bytes]]) -> None:
        size_bytes = sum(BATCH_RECORD.size + len(content) for _, content in group)
        await self._send("POST", "/batch", _packed(group), size_bytes)

    async def _send(
        self, method: str, path: str, stream: AsyncIterator[bytes], size_bytes: int
    ) -> None:
        headers = {**self._headers, "Content-Length": str(size_bytes)}
        body = _Body(stream, size_bytes)
        try:
            async with (
                self._within(IDLE_LIMIT_S) as limit,
                self._session.request(
                    method, self._base + path, data=body.pieces(limit), headers=headers
                ) as response,
            ):
                await self._checked(response)
        except Unavailable:
            if body.broken is not None:  # which the client library hides
                raise body.broken from None
            raise

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        check_digest(digest)
        limits = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_LIMIT_S, sock_read=IDLE_LIMIT_S
        )
        async with (
            translated(self._what, TLS_KEYS),
            self._session.get(
                f"{self._base}/{digest}", headers=self._headers, timeout=limits
            ) as response,
        ):
            await self._checked(response)
            async for piece in response.content.iter_chunked(CHUNK_BYTES):
                yield piece

    async def size(self, digest: str) -> int:
        check_digest(digest)
        return (await self._ask("GET", f"/{digest}/size", Size, ANSWER_LIMIT_S)).size_bytes

    async def delete(self, digests: Sequence[str], used_until_s: float = math.inf) -> None:
        until_s = used_until_s if math.isfinite(used_until_s) else None
        for page in _pages(digests):
            asked = Removal(digests=page, used_until_s=until_s)
            await self._ask("POST", "/delete", Done, DELETE_LIMIT_S, asked)

    async def list(self) -> AsyncIterator[StoredBlob]:
        limits = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_LIMIT_S, sock_read=ANSWER_LIMIT_S
        )
        async with (
            translated(self._what, TLS_KEYS),
            self._session.get(self._base, headers=self._headers, timeout=limits) as response,
        ):
            await self._checked(response)
            rest = b""
            async for piece in response.content.iter_any():
                rest += piece
                whole = len(rest) - len(rest) % LISTED.size
                for digest, size_bytes, used_at_s in LISTED.iter_unpack(rest[:whole]):
                    yield StoredBlob(
                        digest=digest.hex(), size_bytes=size_bytes, used_at_s=used_at_s
                    )
                rest = rest[whole:]

    async def _ask(
        self, method: str, path: str, kind: type[T], limit_s: float, body: object = None
    ) -> T:
        data = None if body is None else wire.encode(body)
        async with (
            self._within(limit_s),
            self._session.request(
                method, self._base + path, data=data, headers=self._headers
            ) as response,
        ):
            await self._checked(response)
            return await read_answer(response, kind)

    @asynccontextmanager
    async def _within(self, limit_s: float) -> AsyncIterator[asyncio.Timeout]:
        async with translated(self._what, TLS_KEYS):
            try:
                async with asyncio.timeout(limit_s) as limit:
                    yield limit
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise Unavailable(f"{self._what} did not answer in time") from error

    async def _checked(self, response: aiohttp.ClientResponse) -> None:
        """Raise what an answer of 400 or above stands for, with the name of who gave it."""
        if response.status < HTTPStatus.BAD_REQUEST:
            return
        raw = await read_start(response, MAX_ANSWER_BYTES)
        error = error_of(response.status, response.content_type, raw)
        told = f"{self._what}: {error}"
        if response.status == HTTPStatus.INSUFFICIENT_STORAGE:
            raise DiskFull(told) from error
        if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise Unavailable(
                f"{self._what} refuses this one's token; give both the same `tokens.admin`"
            ) from error
        raise Refused(told, error.code) if isinstance(error, Refused) else Unavailable(told)


class _Body:
    """A body of a length that was announced; `broken` is why its stream ended early."""

    def __init__(self, stream: AsyncIterator[bytes], size_bytes: int) -> None:
        self._stream = stream
        self._left_bytes = size_bytes
        self.broken: SeraiError | None = None

    async def pieces(self, limit: asyncio.Timeout) -> AsyncGenerator[bytes | memoryview, None]:
        """Yield the pieces in short runs; each that was taken puts off the limit.

        The last one waits for the stream's end, without which nothing may be stored.
        """
        loop = asyncio.get_running_loop()
        try:
            held: bytes | memoryview = b""
            async for piece in self._stream:
                self._left_bytes -= len(piece)
                if self._left_bytes < 0:
                    break
                for run in _runs(piece):
                    yield held
                    if not limit.expired():
                        limit.reschedule(loop.time() + IDLE_LIMIT_S)
                    held = run
            if self._left_bytes:
                raise Refused(
                    f"{abs(self._left_bytes)} bytes too many or too few to send", "size_mismatch"
                )
            yield held
        except SeraiError as error:
            self.broken = error
            raise


async def _packed(group: Sequence[tuple[str, bytes]]) -> AsyncIterator[bytes]:
    for digest, content in group:
        yield BATCH_RECORD.pack(bytes.fromhex(digest), len(content))
        yield content


def _runs(piece: bytes) -> Iterator[memoryview]:
    room = memoryview(piece)
    for start in range(0, len(room), RUN_BYTES):
        yield room[start : start + RUN_BYTES]


def _pages(digests: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        tuple(digests[start : start + PAGE_DIGESTS])
        for start in range(0, len(digests), PAGE_DIGESTS)
    ]
