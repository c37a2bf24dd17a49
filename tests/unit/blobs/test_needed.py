"""Which blobs versions need, and a manifest whose first copy turns out to be damaged."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from serai.blobs import MemoryBlobs, damaged_blob, one_piece
from serai.bundle import Manifest, encode_manifest
from serai.clock import SimClock
from serai.errors import Refused
from serai.model import digest_of
from serai_scheduler.blobs.needed import manifest_of, roots_of
from tests.support.scheduling import deployed, spec

EMPTY = encode_manifest(Manifest(files=()))


def test_what_versions_name_is_needed() -> None:
    _, bare = deployed(None, spec("bare"), bundle="")
    _, first = deployed(None, spec("first"), bundle="a")
    (name, version), *_ = first.versions.items()
    content = msgspec.structs.replace(version.content, lock="lock", runtime="runtime")
    versions = {name: msgspec.structs.replace(version, content=content)}
    assert roots_of([bare]) == (frozenset(), frozenset())
    found = roots_of([bare, msgspec.structs.replace(first, versions=versions)])
    assert found.bundles == {"a"} and found.others == {"lock", "runtime"}


class DamagedOnce(MemoryBlobs):
    """Its first answer turns out to be damaged; others have a whole copy."""

    damaged = True

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        if self.damaged:
            self.damaged = False
            yield b"{"
            raise damaged_blob(digest)
        async for piece in super().get(digest):
            yield piece


async def test_a_damaged_manifest_is_read_again() -> None:
    blobs = DamagedOnce(SimClock().wall)
    digest = digest_of(EMPTY)
    await blobs.put(digest, one_piece(EMPTY), len(EMPTY))
    assert await manifest_of(blobs, digest) == Manifest(files=())
    with pytest.raises(Refused) as caught:
        await manifest_of(blobs, digest_of(b"absent"))
    assert caught.value.code == "no_blob"
