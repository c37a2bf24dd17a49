"""The HTTP interface to blobs: ask what is missing, send it (alone, in batches, in parts), fetch.

A file above `PART_BYTES` comes as parts, each a blob of its own in a store beside, and is
put together here: a broken connection costs one part, and no session has to be kept.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress

import aiohttp
from aiohttp import web

from serai.blobs import (
    BATCH_BLOB_MAX_BYTES,
    BATCH_MAX_BLOBS,
    BATCH_MAX_BYTES,
    BATCH_RECORD,
    PAGE_DIGESTS,
    PART_BYTES,
    Blobs,
    Composition,
    DiskFull,
    check_digest,
    fetched,
)
from serai.bundle import MAX_FILE_BYTES
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.http import answer, problem, read_body
from serai.operator import Digests

log = logging.getLogger(__name__)

IDLE_LIMIT_S = 60.0
QUESTION_MAX_BYTES = 2**20
"""A page of 10,000 digests is 670 kB of JSON."""
MAX_UPLOADS = 16
MAX_WAITING = 256

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUSES = {
    "bad_digest": 400,
    "bad_batch": 400,
    "upload_cut_off": 400,
    "no_blob": 404,
    "length_required": 411,
    "body_too_large": 413,
    "blob_too_large": 413,
    "too_many_digests": 413,
    "digest_mismatch": 422,
    "size_mismatch": 422,
    "no_part": 409,
}


def routes(blobs: Blobs, parts: Blobs, prefix: str = "/v1/blobs") -> list[web.RouteDef]:
    """Return the routes to `blobs`; `parts` holds pieces of big files until they are whole.

    Whoever mounts them sees to authentication. Errors are problem+json.
    """
    files = Uploads(blobs, MAX_FILE_BYTES)
    pieces = Uploads(parts, PART_BYTES)
    composer = _Composer(blobs, parts)

    def guarded(handler: Handler) -> Handler:
        return problems(handler, parts)

    return [
        web.post(f"{prefix}/parts/missing", guarded(pieces.missing)),
        web.put(f"{prefix}/parts/{{digest}}", guarded(pieces.put)),
        web.post(f"{prefix}/{{digest}}/compose", guarded(composer.compose)),
        *files.routes(prefix, guarded),
    ]


def problems(handler: Handler, parts: Blobs) -> Handler:
    """Answer Serai's errors as problems; a full disk gets room by what `parts` holds."""

    async def answering(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ConfigError as error:
            return problem(400, "bad_request", str(error))
        except Refused as error:
            return problem(STATUSES.get(error.code, 422), error.code, str(error))
        except DiskFull as error:
            await _give_room(parts)
            return problem(507, "disk_full", str(error))
        except Unavailable as error:
            return problem(503, "unavailable", str(error))

    return answering


@contextmanager
def whole_or_cut_off(request: web.Request, response: web.StreamResponse) -> Iterator[None]:
    """Cut the connection when an answer that has begun cannot be finished.

    A problem would be written into its body then, and half an answer look like a whole one.
    """
    try:
        yield
    except SeraiError as error:
        if not response.prepared:
            raise
        log.warning("answer cut off", extra={"path": request.path, "why": str(error)})
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError(str(error)) from error


async def _give_room(parts: Blobs) -> None:
    """Drop the parts of unfinished uploads: kept for a day, they would keep the disk full."""
    with suppress(Refused, Unavailable):
        await parts.delete([part.digest async for part in parts.list()])


class _Room:
    """Bounds how many uploads are held in memory, and how many wait for their turn."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(MAX_UPLOADS)
        self._waiting = 0

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} uploads wait already; try again in a few seconds")
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()


class Uploads:
    """Requests about the blobs of one store, none larger than `limit_bytes`."""

    def __init__(self, blobs: Blobs, limit_bytes: int) -> None:
        self._blobs = blobs
        self._limit_bytes = limit_bytes
        self._room = _Room()

    async def missing(self, request: web.Request) -> web.Response:
        """Answer which of some digests are not stored."""
        asked = (await read_body(request, Digests, QUESTION_MAX_BYTES)).digests
        if len(asked) > PAGE_DIGESTS:
            raise Refused(
                f"{len(asked)} digests in one question; ask about at most {PAGE_DIGESTS} at a time",
                "too_many_digests",
            )
        present = await self._blobs.has(asked)
        return answer(Digests(digests=tuple(d for d in asked if d not in present)))

    async def put(self, request: web.Request) -> web.Response:
        """Store the body under the digest in the path."""
        digest = digest_in(request)
        size_bytes = _length_of(request, self._limit_bytes)
        async with self._room.take():
            await self._blobs.put(digest, _received(request), size_bytes)
        return web.Response(status=204)

    async def batch(self, request: web.Request) -> web.Response:
        """Store each blob of a batch; those before a bad one stay stored."""
        left_bytes = _length_of(request, BATCH_MAX_BYTES + BATCH_MAX_BLOBS * BATCH_RECORD.size)
        async with self._room.take(), aclosing(_received(request)) as pieces:
            await self._blobs.put_each(_unpacked(_Reader(pieces), left_bytes))
        return web.Response(status=204)

    def routes(self, prefix: str, wrap: Callable[[Handler], Handler]) -> list[web.RouteDef]:
        """Return the routes to whole blobs, each handler wrapped."""
        return [
            web.post(f"{prefix}/missing", wrap(self.missing)),
            web.post(f"{prefix}/batch", wrap(self.batch)),
            web.put(f"{prefix}/{{digest}}", wrap(self.put)),
            web.get(f"{prefix}/{{digest}}", wrap(self.get), allow_head=False),
        ]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Stream a blob."""
        digest = digest_in(request)
        size_bytes = await self._blobs.size(digest)
        response = web.StreamResponse()
        response.content_type = "application/octet-stream"
        response.content_length = size_bytes
        with whole_or_cut_off(request, response):
            async with aclosing(fetched(self._blobs, digest)) as pieces:
                first = await anext(pieces, b"")
                await response.prepare(request)
                await response.write(first)
                async for piece in pieces:
                    await response.write(piece)
        await response.write_eof()
        return response


class _Composer:
    """Puts big files together from their parts."""

    def __init__(self, blobs: Blobs, parts: Blobs) -> None:
        self._blobs = blobs
        self._parts = parts

    async def compose(self, request: web.Request) -> web.Response:
        """Store the blob that the parts in the body make up, then remove the parts."""
        digest = digest_in(request)
        asked = await read_body(request, Composition, QUESTION_MAX_BYTES)
        if await self._blobs.has([digest]):
            return web.Response(status=204)
        lacking = set(asked.parts) - await self._parts.has(tuple(set(asked.parts)))
        if lacking:
            raise Refused(f"{len(lacking)} of the parts are not stored; send them", "no_part")
        await self._blobs.put(digest, self._joined(asked.parts), asked.size_bytes)
        await self._parts.delete(tuple(set(asked.parts)))
        return web.Response(status=204)

    async def _joined(self, parts: tuple[str, ...]) -> AsyncIterator[bytes]:
        try:
            for part in parts:
                async with aclosing(fetched(self._parts, part)) as pieces:
                    async for piece in pieces:
                        yield piece
        except Refused as error:
            # Another upload of the same file was faster and has removed the parts.
            raise Refused(f"a part went away: {error}", "no_part") from error


class _Reader:
    """Cuts a stream of pieces into runs of exact lengths."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._held = memoryview(b"")

    async def take(self, count_bytes: int) -> bytes:
        """Return exactly that many bytes; Refused (`bad_batch`) when the stream ends before."""
        runs: list[memoryview] = []
        while count_bytes:
            if not self._held:
                self._held = memoryview(await self._next())
            runs.append(self._held[:count_bytes])
            self._held = self._held[count_bytes:]
            count_bytes -= len(runs[-1])
        return b"".join(runs)

    async def _next(self) -> bytes:
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            raise Refused("the batch ends in the middle of a blob", "bad_batch") from None


async def _unpacked(reader: _Reader, left_bytes: int) -> AsyncIterator[tuple[str, bytes]]:
    """Yield the blobs of a batch of so many bytes."""
    for _ in range(BATCH_MAX_BLOBS):
        if left_bytes == 0:
            return
        digest, size_bytes = _record(await reader.take(BATCH_RECORD.size))
        yield digest, await reader.take(size_bytes)
        left_bytes -= BATCH_RECORD.size + size_bytes
    if left_bytes:
        raise Refused(f"a batch may hold at most {BATCH_MAX_BLOBS} blobs", "bad_batch")


def _record(raw: bytes) -> tuple[str, int]:
    digest, size_bytes = BATCH_RECORD.unpack(raw)
    if size_bytes > BATCH_BLOB_MAX_BYTES:
        raise Refused(
            f"a blob of {size_bytes} bytes in a batch; {BATCH_BLOB_MAX_BYTES} are allowed, "
            "send larger ones alone",
            "blob_too_large",
        )
    return digest.hex(), size_bytes


async def _received(request: web.Request) -> AsyncGenerator[bytes, None]:
    """Yield the body; Refused (`upload_cut_off`) when it ends early or stands still."""
    try:
        while True:
            async with asyncio.timeout(IDLE_LIMIT_S):
                piece = await request.content.readany()
            if not piece:
                return
            yield piece
    except (aiohttp.ClientError, web.RequestPayloadError, OSError, TimeoutError) as error:
        why = str(error) or type(error).__name__
        raise Refused(f"the upload was cut off: {why}; send it again", "upload_cut_off") from error


def digest_in(request: web.Request) -> str:
    """Return the digest in the path; Refused (`bad_digest`) when it is none."""
    digest = request.match_info["digest"]
    check_digest(digest)
    return digest


def _length_of(request: web.Request, limit_bytes: int) -> int:
    """Return the length that the request announces; Refused without one or above the limit."""
    size_bytes = request.content_length
    if size_bytes is None:
        raise Refused("an upload must say its length (Content-Length)", "length_required")
    if size_bytes > limit_bytes:
        raise Refused(
            f"the body has {size_bytes} bytes; {limit_bytes} are allowed", "body_too_large"
        )
    return size_bytes
