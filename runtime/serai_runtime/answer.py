"""From what a predictor returns to a body and its content type. Pure."""

import json
import math
from typing import Any

import msgspec

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"


class NotSerialisable(TypeError):
    """A predictor returned something that cannot become a response."""


def _plain(value: Any) -> Any:
    """Turn numpy's scalars and arrays into Python's own; numpy itself is never imported."""
    module = type(value).__module__
    if module == "numpy" or module.startswith("numpy."):
        plain = value.tolist()
        if type(plain) is not type(value):  # a long double is its own: Python has none
            return plain
        return float(plain)
    if isinstance(value, set | frozenset):
        return list(value)
    raise NotSerialisable(
        f"predict returned {type(value).__module__}.{type(value).__qualname__}, which cannot be "
        "sent: return something JSON-able, str, bytes, or an aiohttp Response"
    )


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def to_json(value: Any) -> bytes:
    """Return `value` as JSON; raise NotSerialisable when it is none."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _slow_json(value)


def _slow_json(value: Any) -> bytes:
    # The standard library takes what msgspec refuses: keys that are numbers or booleans, huge ints.
    try:
        return json.dumps(_simple(value), allow_nan=False).encode()
    except NotSerialisable:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise NotSerialisable(
            f"predict returned something that is not JSON-able: {error}"
        ) from error


def _simple(value: Any) -> Any:
    """Return `value` as the standard library takes it, with what msgspec makes of the rest."""
    if isinstance(value, dict):
        return {_key(key): _simple(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_simple(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    return _simple(msgspec.to_builtins(value, enc_hook=_plain))


def _key(key: Any) -> Any:
    return key if isinstance(key, str | int | float | None) else _plain(key)


def body_of(result: Any) -> tuple[bytes, str]:
    """Return the body and content type for what `predict` returned."""
    if isinstance(result, bytes | bytearray | memoryview):
        return bytes(result), BYTES
    if isinstance(result, str):
        return result.encode(), TEXT
    return to_json(result), JSON


def chunk_of(item: Any) -> bytes:
    """Return one streamed item as plain bytes; JSON items end with a newline."""
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, str):
        return item.encode()
    return to_json(item) + b"\n"


def event_of(item: Any) -> bytes:
    """Return one streamed item as a server-sent event."""
    text = item if isinstance(item, str) else chunk_of(item).decode("utf-8", "replace")
    lines = text.removesuffix("\n").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return ("".join(f"data: {line}\n" for line in lines) + "\n").encode()


def stream_type(first: Any, nothing: bool = False) -> str:
    """Return the content type of a stream by its first item."""
    if nothing or isinstance(first, str):
        return TEXT
    return BYTES if isinstance(first, bytes | bytearray | memoryview) else NDJSON


def error_body(code: str, message: str, request_id: str) -> bytes:
    """Return the JSON body of an error answer."""
    return json.dumps(
        {"error": {"code": code, "message": message, "request_id": request_id}}, default=str
    ).encode()
