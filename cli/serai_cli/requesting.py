"""`serai predict`: one request to an API through the gateway."""

import contextlib
import http.client
import json
import mimetypes
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from serai.errors import ConfigError, Unavailable

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
    url: str, body: bytes | None, content_type: str, headers: Sequence[str], method: str
) -> int:
    """Send a request, write the answer to standard output as it comes; return its status."""
    parts = urlsplit(url)
    named = dict(_header(text) for text in headers)
    if body is not None and content_type:
        named.setdefault("Content-Type", content_type)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=DEADLINE_S)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, body=body, headers=named)
        response = connection.getresponse()
        _write(response)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{url}: {error or type(error).__name__}") from error
    return response.status


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ConfigError(f"a header is written NAME:VALUE, not {text!r}")
    return name.strip(), value.strip()


def _write(response: http.client.HTTPResponse) -> None:
    out = sys.stdout.buffer
    content_type = response.getheader("Content-Type", "")
    if sys.stdout.isatty() and content_type.startswith("application/json"):
        raw = response.read()
        with contextlib.suppress(ValueError):
            raw = json.dumps(json.loads(raw), indent=2, ensure_ascii=False).encode() + b"\n"
        out.write(raw)
    else:
        while chunk := response.read1(CHUNK_BYTES):
            out.write(chunk)
            out.flush()
        if sys.stdout.isatty():
            out.write(b"\n")
    out.flush()
