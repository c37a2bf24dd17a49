"""Which blobs the versions in the store need."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from serai.blobs import Blobs, read_all
from serai.bundle import MAX_MANIFEST_BYTES, BundleFile, Manifest, read_manifest
from serai.errors import Refused
from serai_scheduler.record import StoredApi

SIZES_AT_ONCE = 32


class Roots(NamedTuple):
    """What versions name: bundles, each the manifest of more blobs, and whole ones."""

    bundles: frozenset[str]
    others: frozenset[str]


def roots_of(apis: Iterable[StoredApi]) -> Roots:
    """Return what all versions name, by digest: their bundles; their locks and runtimes."""
    contents = [version.content for stored in apis for version in stored.versions.values()]
    others = {digest for one in contents for digest in (one.lock, one.runtime)}
    return Roots(frozenset(one.bundle for one in contents) - {""}, frozenset(others - {""}))


async def manifest_of(blobs: Blobs, bundle: str) -> Manifest:
    """Read the manifest of a bundle; raises as `Blobs.get` does, ConfigError for what is none."""
    try:
        return await _manifest(blobs, bundle)
    except Refused as error:
        if error.code != "blob_damaged":
            raise
        return await _manifest(blobs, bundle)  # that copy is gone now, and there may be others


async def wrong_size(blobs: Blobs, manifest: Manifest) -> str:
    """Return what is wrong with the sizes that a manifest gives, "" for nothing.

    Its files are stored. A node that takes a file of another size for damaged would say so late.
    """
    turn = asyncio.Semaphore(SIZES_AT_ONCE)

    async def look(file: BundleFile) -> str:
        async with turn:
            size_bytes = await blobs.size(file.digest)
        if size_bytes == file.size_bytes:
            return ""
        return f"{file.path} has {size_bytes} bytes, not {file.size_bytes} as the bundle says"

    found = await asyncio.gather(*(look(file) for file in manifest.files))
    return next(filter(None, found), "")


async def _manifest(blobs: Blobs, bundle: str) -> Manifest:
    return read_manifest(await read_all(blobs, bundle, MAX_MANIFEST_BYTES))
