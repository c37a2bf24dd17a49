"""From an HTTP request to the arguments that a predictor is offered."""

from typing import Any

from aiohttp import MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import BodyPartReader
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge
from multidict import istr

from serai_runtime.errors import BodyError, BodyTooLarge
from serai_runtime.pace import kept_up
from serai_runtime.payload import Upload, gathered, read

CONTENT_TYPE = istr("Content-Type")
EXPECT = istr("Expect")
CONTENT_LENGTH = istr("Content-Length")
BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
FIELDS_MAX = 1000


async def payload_of(request: web.BaseRequest, limit_bytes: int) -> Any:
    """Return the payload; raise BodyError with the reason, BodyTooLarge or BodyTooSlow."""
    content = request.content
    content_type = request.headers.get(CONTENT_TYPE, "")
    told_bytes = request.headers.get(CONTENT_LENGTH)
    if told_bytes is not None and int(told_bytes) > limit_bytes:
        raise BodyTooLarge(_too_large(limit_bytes))
    if content.is_eof():  # a small body has come together with its head: nothing to wait for
        return await _payload(request, content_type, limit_bytes)
    _ask_for_body(request)
    async with kept_up(content):
        return await _payload(request, content_type, limit_bytes)


async def _payload(request: web.BaseRequest, content_type: str, limit_bytes: int) -> Any:
    content = request.content
    if content_type[:19].lower() == "multipart/form-data":
        return await _multipart(request, limit_bytes)
    try:
        body = content.read_nowait() if content.is_eof() else await request.read()
    except HTTPRequestEntityTooLarge as error:
        raise BodyTooLarge(_too_large(limit_bytes)) from error
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise BodyError(f"the body could not be read: {error}") from error
    if len(body) > limit_bytes:
        raise BodyTooLarge(_too_large(limit_bytes))
    if not body and request.method in BODILESS:
        return None
    return read(body, content_type)


def _ask_for_body(request: web.BaseRequest) -> None:
    """Tell a client that asked first to send (curl does so for more than 1 MiB, and waits)."""
    asked = request.headers.get(EXPECT, "").lower() == "100-continue"
    if asked and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _too_large(limit_bytes: int) -> str:
    return f"the body is larger than the {limit_bytes} bytes that are allowed"


async def _multipart(request: web.BaseRequest, limit_bytes: int) -> dict[str, Any]:
    pairs: list[tuple[str, Any]] = []
    left_bytes = limit_bytes
    try:
        reader = MultipartReader(request.headers, request.content)
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader) or not part.name:
                raise BodyError("the body is not a valid multipart form: a part has no name")
            if len(pairs) == FIELDS_MAX:
                raise BodyError(f"the multipart form has more than {FIELDS_MAX} parts")
            data = await _part(part, left_bytes, limit_bytes)
            left_bytes -= len(data)
            pairs.append((part.name, _value(part, data)))
    except (ValueError, AssertionError, web.RequestPayloadError, HttpProcessingError) as error:
        raise BodyError(f"the body is not a valid multipart form: {error}") from error
    if not pairs:
        raise BodyError("the body is not a valid multipart form: no part was found")
    return gathered(pairs)


async def _part(part: BodyPartReader, left_bytes: int, limit_bytes: int) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(65_536):
        data += chunk
        if len(data) > left_bytes:
            raise BodyTooLarge(_too_large(limit_bytes))
    return bytes(data)


def _value(part: BodyPartReader, data: bytes) -> Any:
    if part.filename is None:
        return data.decode("utf-8", "replace")
    kind = part.headers.get(CONTENT_TYPE, "application/octet-stream")
    return Upload(part.filename, kind, data)


def query_of(request: web.BaseRequest) -> dict[str, Any]:
    """Return the query's parameters; one that occurs several times has a list."""
    return gathered(list(request.query.items()))


def headers_of(request: web.BaseRequest) -> dict[str, str]:
    """Return the headers by their names in lower case."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        between = "; " if key == "cookie" else ", "
        headers[key] = f"{headers[key]}{between}{value}" if key in headers else value
    return headers
