"""The caches' port to immutable content; `serai.blobs.Blobs` fits it."""

import hashlib
from collections.abc import AsyncIterator
from typing import Protocol

from serai.errors import ConfigError


class Fetch(Protocol):
    """Where bundles, locks and manifests come from."""

    def get(self, digest: str) -> AsyncIterator[bytes]:
        """Yield the content with this SHA-256; Refused when there is none, else Unavailable."""
        ...


async def fetch_whole(fetch: Fetch, digest: str, limit_bytes: int, what: str) -> bytes:
    """Return small content, checked; ConfigError when it is too large or not what it should be."""
    data = bytearray()
    async for chunk in fetch.get(digest):
        data += chunk
        if len(data) > limit_bytes:
            raise ConfigError(f"the {what} {digest[:12]} is larger than {limit_bytes} bytes")
    if hashlib.sha256(data).hexdigest() != digest:
        raise ConfigError(f"the {what} {digest[:12]} is damaged in the store; deploy again")
    return bytes(data)
