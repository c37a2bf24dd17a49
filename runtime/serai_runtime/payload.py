"""From a request's body to the payload that a predictor gets. Pure."""

from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from serai_runtime.errors import BodyError

_decoder = msgspec.json.Decoder()
TEXT_TYPES = ("text/",)


@dataclass(frozen=True)
class Upload:
    """A file of a multipart form."""

    filename: str
    content_type: str
    data: bytes


def read(body: bytes, content_type: str) -> Any:
    """Return the payload: parsed JSON, form fields, text, or the bytes themselves.

    Without a content type JSON is tried first, then UTF-8 text is not guessed: bytes stay bytes.
    Raises BodyError with the reason when the body is not what its type says.
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if not body and kind in ("", "application/octet-stream"):
        return None
    if kind == "application/json" or kind.endswith("+json"):
        return _json(body)
    if kind == "application/x-www-form-urlencoded":
        return _form(body)
    if kind == "multipart/form-data":
        return _multipart(body, content_type)
    if kind.startswith(TEXT_TYPES):
        return _text(body, parameters)
    if not kind:
        return _guess(body)
    return body


def _json(body: bytes) -> Any:
    if not body:
        raise BodyError("the body is empty, but its content type says JSON")
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise BodyError(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise BodyError("the body is not usable JSON: it is nested too deeply") from error


def _guess(body: bytes) -> Any:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return body


def _text(body: bytes, parameters: str) -> str:
    charset = "utf-8"
    for part in parameters.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"') or charset
    try:
        return body.decode(charset)
    except (LookupError, UnicodeDecodeError) as error:
        raise BodyError(f"the body is not {charset} text: {error}") from error


def _form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(body), errors="strict"
        )
    except ValueError as error:
        raise BodyError(f"the body is not a valid form: {error}") from error
    return _gathered(pairs)


def _multipart(body: bytes, content_type: str) -> dict[str, Any]:
    if "boundary=" not in content_type.lower():
        raise BodyError("the body is not a valid multipart form: its type names no boundary")
    head = b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    if not message.is_multipart() or message.defects:
        defects = ", ".join(type(d).__name__ for d in message.defects) or "no part found"
        raise BodyError(f"the body is not a valid multipart form: {defects}")
    pairs: list[tuple[str, Any]] = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            raise BodyError("the body is not a valid multipart form: a part has no name")
        data = part.get_payload(decode=True)
        raw = data if isinstance(data, bytes) else b""
        filename = part.get_filename()
        if filename is not None:
            pairs.append((name, Upload(filename, part.get_content_type(), raw)))
        else:
            pairs.append((name, raw.decode("utf-8", "replace")))
    return _gathered(pairs)


def _gathered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dict; a name that occurs several times has a list."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields
