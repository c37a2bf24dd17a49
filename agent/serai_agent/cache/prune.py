"""What a cache may remove: the longest unused, never what is in use. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """One thing in a cache: its size and when it was last used (seconds since 1970)."""

    key: str
    size_bytes: int
    used_at_s: float


@dataclass(frozen=True)
class Bounds:
    """How much a cache may hold; what was used within `min_age_s` stays whatever its size."""

    max_bytes: int
    min_age_s: float


def to_remove(
    kept: Sequence[Kept], in_use: Collection[str], bounds: Bounds, now_s: float
) -> tuple[str, ...]:
    """Return the keys to remove, the longest unused first, until the rest fits the bound."""
    total_bytes = sum(item.size_bytes for item in kept)
    removed: list[str] = []
    for item in sorted(kept, key=lambda item: (item.used_at_s, item.key)):
        if total_bytes <= bounds.max_bytes:
            break
        if item.key in in_use or now_s - item.used_at_s < bounds.min_age_s:
            continue
        removed.append(item.key)
        total_bytes -= item.size_bytes
    return tuple(removed)
