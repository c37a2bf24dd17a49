"""What a scheduler's own folder of blobs answers to the other schedulers: never anybody else's.

Whoever mounts the routes sees to authentication; they are no part of the operator API.
"""

import math
import struct
from typing import Annotated

import msgspec
from aiohttp import web

from serai.blobs import PAGE_DIGESTS, Blobs
from serai.bundle import MAX_FILE_BYTES
from serai.http import answer, read_body
from serai.model import Value
from serai.operator import Done
from serai_scheduler.blobs.http import (
    QUESTION_MAX_BYTES,
    Handler,
    Uploads,
    digest_in,
    problems,
    whole_or_cut_off,
)

PEER_BLOBS = "/v1/peers/blobs"
LISTED = struct.Struct(">32sQd")
"""A blob in a listing: its digest, its size in bytes, when it was used last."""
LISTED_TOGETHER = 1_000


class Size(Value):
    """How large a blob is."""

    size_bytes: Annotated[int, msgspec.Meta(ge=0)]


class Removal(Value):
    """Blobs to remove, as `Blobs.delete` does; None for whenever they were used."""

    digests: Annotated[tuple[str, ...], msgspec.Meta(max_length=PAGE_DIGESTS)]
    used_until_s: float | None = None


def peer_routes(own: Blobs, parts: Blobs) -> list[web.RouteDef]:
    """Return the routes by which the other schedulers reach `own`; a full disk drops `parts`."""
    files = Uploads(own, MAX_FILE_BYTES)
    stock = _Stock(own)

    def guarded(handler: Handler) -> Handler:
        return problems(handler, parts)

    return [
        web.get(PEER_BLOBS, guarded(stock.list)),
        web.post(f"{PEER_BLOBS}/delete", guarded(stock.delete)),
        web.get(f"{PEER_BLOBS}/{{digest}}/size", guarded(stock.size)),
        *files.routes(PEER_BLOBS, guarded),
    ]


class _Stock:
    """Requests that only schedulers have about the blobs of another."""

    def __init__(self, own: Blobs) -> None:
        self._own = own

    async def size(self, request: web.Request) -> web.Response:
        return answer(Size(size_bytes=await self._own.size(digest_in(request))))

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Stream every blob as a record."""
        response = web.StreamResponse()
        response.content_type = "application/octet-stream"
        records: list[bytes] = []
        with whole_or_cut_off(request, response):
            async for blob in self._own.list():
                if not response.prepared:  # by now the store is known to answer
                    await response.prepare(request)
                digest = bytes.fromhex(blob.digest)
                records.append(LISTED.pack(digest, blob.size_bytes, blob.used_at_s))
                if len(records) >= LISTED_TOGETHER:
                    await response.write(b"".join(records))
                    records.clear()
        await response.prepare(request)
        await response.write(b"".join(records))
        await response.write_eof()
        return response

    async def delete(self, request: web.Request) -> web.Response:
        asked = await read_body(request, Removal, QUESTION_MAX_BYTES)
        until_s = math.inf if asked.used_until_s is None else asked.used_until_s
        await self._own.delete(asked.digests, until_s)
        return answer(Done(message="removed"))
