"""How content is divided into requests: small files together, big ones in parts. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from serai.blobs import (
    BATCH_BLOB_MAX_BYTES,
    BATCH_MAX_BLOBS,
    BATCH_MAX_BYTES,
    BATCH_RECORD,
    PART_BYTES,
)
from serai_cli.project.bundle import Source

BATCH_AIM_BYTES = BATCH_MAX_BYTES // 4
"""Smaller batches than allowed: a broken connection costs less and the progress moves."""


@dataclass(frozen=True)
class Batch:
    """Several small blobs in one request."""

    sources: tuple[Source, ...]

    @property
    def size_bytes(self) -> int:
        """Return the size of the request's body."""
        return sum(BATCH_RECORD.size + source.size_bytes for source in self.sources)


@dataclass(frozen=True)
class Piece:
    """A run of bytes of one source in one request: the whole of it, or a part of a big one."""

    source: Source
    digest: str
    start: int
    size_bytes: int
    is_part: bool


@dataclass(frozen=True)
class Packed:
    """Content divided: what goes over as it is, and what has to be cut into parts first."""

    packages: tuple[Batch | Piece, ...]
    big: tuple[Source, ...]


def pack(sources: Sequence[Source]) -> Packed:
    """Divide content into requests, the larger ones first so that none is left alone at the end."""
    big = [s for s in sources if s.size_bytes > PART_BYTES]
    alone = [s for s in sources if BATCH_BLOB_MAX_BYTES < s.size_bytes <= PART_BYTES]
    small = [s for s in sources if s.size_bytes <= BATCH_BLOB_MAX_BYTES]
    whole = [Piece(s, s.digest, 0, s.size_bytes, is_part=False) for s in alone]
    return Packed((*whole, *_batches(small)), tuple(big))


def _batches(sources: Sequence[Source]) -> list[Batch]:
    batches: list[Batch] = []
    held: list[Source] = []
    held_bytes = 0
    for source in sources:
        size_bytes = BATCH_RECORD.size + source.size_bytes
        if held and (held_bytes + size_bytes > BATCH_AIM_BYTES or len(held) >= BATCH_MAX_BLOBS):
            batches.append(Batch(tuple(held)))
            held, held_bytes = [], 0
        held.append(source)
        held_bytes += size_bytes
    return [*batches, Batch(tuple(held))] if held else batches


def part_ranges(size_bytes: int) -> list[tuple[int, int]]:
    """Return offset and length of each part of a big file."""
    return [
        (start, min(PART_BYTES, size_bytes - start)) for start in range(0, size_bytes, PART_BYTES)
    ]
