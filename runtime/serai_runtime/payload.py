"""From a request's body to the payload that a predictor gets. Pure."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from serai_runtime.errors import BodyError

_decoder = msgspec.json.Decoder()


@dataclass(frozen=True)
class Upload:
    """A file of a multipart form."""

    filename: str
    content_type: str
    data: bytes


def read(body: bytes, content_type: str) -> Any:
    """Return the payload: parsed JSON, form fields, text, or the bytes themselves.

    Without a content type JSON is tried, else the bytes stay as they are. Multipart forms are read
    in `incoming`, part by part. Raises BodyError with the reason when the body is not what its
    type says.
    """
    if content_type == "application/json":
        return _json(body)
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if not body and kind in ("", "application/octet-stream"):
        return None
    if kind == "application/json" or kind.endswith("+json"):
        return _json(body)
    if kind == "application/x-www-form-urlencoded":
        return _form(body)
    if kind.startswith("text/"):
        return _text(body, parameters)
    if not kind:
        return _guess(body)
    return body


def _json(body: bytes) -> Any:
    if not body:
        raise BodyError("the body is empty, but its content type says JSON")
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BodyError(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise BodyError("the body is not usable JSON: it is nested too deeply") from error


def _guess(body: bytes) -> Any:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body


def _text(body: bytes, parameters: str) -> str:
    charset = "utf-8"
    for part in parameters.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"') or charset
    try:
        return body.decode(charset)
    except (LookupError, UnicodeError) as error:
        raise BodyError(f"the body is not {charset} text: {error}") from error


def _form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(body), errors="strict"
        )
    except ValueError as error:
        # What curl sends when its user forgot the header.
        hint = "; it looks like JSON: say so with Content-Type: application/json"
        looks_like_json = body.lstrip()[:1] in (b"{", b"[")
        raise BodyError(
            f"the body is not a valid form: {error}{hint if looks_like_json else ''}"
        ) from error
    return gathered(pairs)


def gathered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dict; a name that occurs several times has a list."""
    fields: dict[str, list[Any]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}
