"""`serai predict`: one request to an API through the gateway."""

import contextlib
import http.client
import json
import mimetypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from serai.errors import ConfigError, Unavailable
from serai_cli.client import connection_to, reason_of
from serai_cli.targets import Target, address_of

DEADLINE_S = 660.0
CHUNK_BYTES = 65536


def body_of(argument: str) -> tuple[bytes, str]:
    """Return the body and content type for JSON text, `@FILE` or `-` (standard input)."""
    if argument == "-":
        data = sys.stdin.buffer.read()
        return data, _guessed(data)
    if argument.startswith("@"):
        path = Path(argument[1:])
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        kind, _ = mimetypes.guess_type(path.name)
        return data, kind or _guessed(data)
    try:
        json.loads(argument)
    except ValueError as error:
        raise ConfigError(
            f"the body is not JSON ({error}); quote it for the shell, or give @FILE or -"
        ) from error
    return argument.encode(), "application/json"


def _guessed(data: bytes) -> str:
    try:
        json.loads(data)
    except ValueError:
        return "application/octet-stream"
    return "application/json"


def request(
    target: Target,
    url: str,
    body: bytes | None,
    content_type: str,
    headers: Sequence[str],
    method: str,
) -> int:
    """Send a request, write the answer to standard output as it comes; return its status."""
    named = dict(_header(text) for text in headers)
    if body is not None and content_type and "content-type" not in {n.lower() for n in named}:
        named["Content-Type"] = content_type
    with (
        closing(connection_to(url, target.ca, DEADLINE_S)) as connection,
        closing(_answer(connection, url, body, named, method)) as response,
    ):
        _write(_chunks(response, url), response.getheader("Content-Type", ""))
        return response.status


def _answer(
    connection: http.client.HTTPConnection,
    url: str,
    body: bytes | None,
    headers: dict[str, str],
    method: str,
) -> http.client.HTTPResponse:
    with _translated(url):
        # A gateway that refuses a body stops reading it, but has said why.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, address_of(url).path, body=body, headers=headers)
        return connection.getresponse()


def _chunks(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    with _translated(url):
        while chunk := response.read1(CHUNK_BYTES):
            yield chunk
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"no answer from {url}: {reason_of(error)}; see `serai get`") from error
    except ValueError as error:
        raise ConfigError(f"this cannot be sent to {url}: {error}") from error


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ConfigError(f"a header is written NAME:VALUE, not {text!r}")
    return name.strip(), value.strip()


def _write(chunks: Iterator[bytes], content_type: str) -> None:
    """Write an answer as it comes; JSON for somebody who looks is laid out first."""
    out = sys.stdout.buffer
    if not sys.stdout.isatty():
        for chunk in chunks:
            out.write(chunk)
            out.flush()
        return
    if content_type.startswith("application/json"):
        whole = b"".join(chunks)
        with contextlib.suppress(ValueError):
            whole = json.dumps(json.loads(whole), indent=2, ensure_ascii=False).encode()
        out.write(whole)
    else:
        for chunk in chunks:
            out.write(chunk)
            out.flush()
    out.write(b"\n")
    out.flush()
