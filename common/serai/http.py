"""Both ends of Serai's own HTTP: problem answers, typed bodies, and errors translated once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar

import aiohttp
from aiohttp import web

from serai import wire
from serai.certificates import NO_KEYS, TlsKeys, hint_if_cut_off, why_no_tls
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.operator import FieldProblem, Problem

T = TypeVar("T")

PROBLEM_TYPE = "application/problem+json"


def problem(
    status: int, code: str, detail: str, problems: tuple[FieldProblem, ...] = ()
) -> web.Response:
    """Return an error answer; `code` is stable and machine-readable."""
    title = HTTPStatus(status).phrase
    body = Problem(status=status, code=code, title=title, detail=detail, problems=problems)
    return web.Response(status=status, body=wire.encode(body), content_type=PROBLEM_TYPE)


def answer(value: object, status: int = 200) -> web.Response:
    """Return `value` as JSON."""
    return web.Response(status=status, body=wire.encode(value), content_type="application/json")


async def read_raw(request: web.Request, limit_bytes: int) -> bytes:
    """Read a body; raise Refused (`body_too_large`) when it has more bytes than that."""
    data = bytearray()
    async for chunk in request.content.iter_chunked(2**16):
        data += chunk
        if len(data) > limit_bytes:
            raise Refused(f"the body is larger than {limit_bytes} bytes", "body_too_large")
    return bytes(data)


async def read_body(request: web.Request, kind: type[T], limit_bytes: int) -> T:
    """Read a typed JSON body; Refused when it is too big, ConfigError when it does not fit."""
    return wire.decode(await read_raw(request, limit_bytes), kind)


@asynccontextmanager
async def translated(what: str, keys: TlsKeys = NO_KEYS) -> AsyncIterator[None]:
    """Turn the client library's errors into Serai's; `what` begins the message.

    `keys` are the settings to name where TLS fails.
    """
    try:
        yield
    except aiohttp.ClientSSLError as error:
        raise Unavailable(f"{what}: {why_no_tls(error, keys) or error}") from error
    except aiohttp.ClientConnectorError as error:
        raise Unavailable(f"{what}: cannot connect to {error.host}:{error.port}") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        why = why_no_tls(error, keys) or str(error) or type(error).__name__
        why += hint_if_cut_off(error, keys)
        raise Unavailable(f"{what}: {why}") from error


def check_token(token: str, of: str) -> None:
    """Raise ConfigError for a token that no header can carry; "" is none and passes."""
    if token and not (token.isascii() and token.isprintable()):
        raise ConfigError(f"the token for {of} holds a line end or another odd character")


class ProblemAnswer(Refused):
    """The scheduler answered with a problem; `problem` holds it whole."""

    def __init__(self, body: Problem) -> None:
        super().__init__(body.detail, body.code)
        self.problem = body


async def read_start(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Read a body, or so much of it; the client library's own `read` ends at the first pieces."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) >= limit_bytes:
            break
    return bytes(data[:limit_bytes])


async def read_answer(response: aiohttp.ClientResponse, kind: type[T]) -> T:
    """Read a typed answer; ProblemAnswer, or Unavailable for what the scheduler never sends."""
    raw = await response.read()
    if response.status < HTTPStatus.BAD_REQUEST:
        return wire.decode_answer(raw, kind)
    raise error_of(response.status, response.content_type, raw)


def error_of(status: int, content_type: str, raw: bytes) -> SeraiError:
    """Return the error that an answer of 400 or above stands for."""
    if content_type == PROBLEM_TYPE:
        try:
            body = wire.decode_answer(raw, Problem)
        except ConfigError:
            return Unavailable(f"HTTP {status} with an unreadable problem")
        unavailable = body.status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
        return Unavailable(body.detail) if unavailable else ProblemAnswer(body)
    return Unavailable(f"HTTP {status} from something that is not a Serai scheduler")
