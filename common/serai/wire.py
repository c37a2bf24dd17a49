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


def digest(content: VersionContent) -> str:
    """Return the digest of a version: the same content gives the same digest on any machine."""
    return digest_of(_sorting_encoder.encode(content))
