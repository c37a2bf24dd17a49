"""Reads content for an upload into memory: a request's body is never larger than a part."""

import hashlib
from typing import BinaryIO

from serai.blobs import BATCH_RECORD
from serai.errors import ConfigError
from serai_cli.project.bundle import Source
from serai_cli.project.packing import Batch, Piece, part_ranges


def body_of(package: Batch | Piece) -> bytearray:
    """Return the body of a request; ConfigError when a file is not as it was found."""
    if isinstance(package, Piece):
        body = bytearray(package.size_bytes)
        _read_into(package.source, package.start, memoryview(body))
        return body
    body = bytearray(package.size_bytes)
    room = memoryview(body)
    at = 0
    for source in package.sources:
        BATCH_RECORD.pack_into(body, at, bytes.fromhex(source.digest), source.size_bytes)
        at += BATCH_RECORD.size
        _read_into(source, 0, room[at : at + source.size_bytes])
        at += source.size_bytes
    return body


def parts_of(source: Source) -> tuple[Piece, ...]:
    """Return the parts of a big source, each with its digest."""
    parts = []
    for start, size_bytes in part_ranges(source.size_bytes):
        content = bytearray(size_bytes)
        _read_into(source, start, memoryview(content))
        parts.append(
            Piece(source, hashlib.sha256(content).hexdigest(), start, size_bytes, is_part=True)
        )
    return tuple(parts)


def changed(label: str) -> ConfigError:
    """Return the error for a file that did not stay as it was when the deploy began."""
    return ConfigError(f"{label} was changed while it was uploaded; deploy again")


def _read_into(source: Source, start: int, room: memoryview) -> None:
    if not source.file:
        room[:] = source.data[start : start + len(room)]
        return
    try:
        with open(source.file, "rb", buffering=0) as file:
            file.seek(start)
            filled = _fill(file, room)
    except FileNotFoundError as error:
        raise changed(source.label) from error
    except OSError as error:
        raise ConfigError(f"{source.label} cannot be read: {error.strerror}") from error
    if filled < len(room):
        raise changed(source.label)


def _fill(file: BinaryIO, room: memoryview) -> int:
    filled = 0
    while filled < len(room):
        count = file.readinto(room[filled:])  # type: ignore[attr-defined]
        if not count:
            break
        filled += count
    return filled
