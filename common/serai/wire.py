"""Strict JSON in and out, with one place for the types that JSON lacks."""

from typing import TypeVar

import msgspec

from serai.errors import ConfigError
from serai.model import VersionContent, digest_of
from serai.spec.codec import dec_hook, enc_hook

T = TypeVar("T")

_encoder = msgspec.json.Encoder(enc_hook=enc_hook)
_sorting_encoder = msgspec.json.Encoder(enc_hook=enc_hook, order="sorted")


def encode(value: object) -> bytes:
    """Return `value` as JSON."""
    return _encoder.encode(value)


def decode(data: bytes | str, kind: type[T]) -> T:
    """Read JSON as `kind`; raise ConfigError naming the path of what does not fit."""
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=dec_hook)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a valid {kind.__name__}: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"not a valid {kind.__name__}: it is nested too deep") from error


def decode_answer(data: bytes | str, kind: type[T]) -> T:
    """Read JSON that another program tells of itself, as `decode`; what is not known is left out.

    It may be of a newer release. Never for what is written back, or for orders: there a field that
    is not known has a meaning that would be lost.
    """
    try:
        return decode(data, kind)
    except ConfigError:
        if (known := without_unknown(data, kind)) is None:
            raise
        return known[0]


def without_unknown(data: bytes | str, kind: type[T]) -> tuple[T, tuple[str, ...]] | None:
    """Return what fits of JSON with fields that `kind` does not have, and their paths.

    None when there are no such fields, or it does not fit for another reason as well.
    """
    from serai.unknown_fields import strip  # what it imports is rarely needed

    try:
        found: object = msgspec.json.decode(data)
        fields = tuple(strip(found, kind))
        return (msgspec.convert(found, kind, dec_hook=dec_hook), fields) if fields else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def digest(content: VersionContent) -> str:
    """Return the digest of a version: the same content gives the same digest on any machine."""
    return digest_of(_sorting_encoder.encode(content))
