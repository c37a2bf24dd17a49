"""Blobs in memory for the caches of a node: bundles, locks and manifests by their digests."""

from collections.abc import AsyncIterator, Mapping

from serai.blobs import Blobs, one_piece
from serai.bundle import BundleFile, Manifest
from serai.errors import Refused
from serai.model import digest_of
from serai.runtime_code import pack_runtime, read_runtime, runtime_blob
from serai.wire import encode


class Contents:
    """Implements the caches' `Fetch`."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def add(self, content: bytes) -> str:
        digest = digest_of(content)
        self._kept[digest] = content
        return digest

    def add_bundle(self, files: Mapping[str, str]) -> str:
        """Keep a project's files and return the digest of their manifest."""
        entries = [
            BundleFile(path=path, digest=self.add(text.encode()), size_bytes=len(text.encode()))
            for path, text in sorted(files.items())
        ]
        return self.add(encode(Manifest(files=tuple(entries))))

    async def put_into(self, blobs: Blobs) -> None:
        """Store all of it there."""
        for digest, content in self._kept.items():
            await blobs.put(digest, one_piece(content), len(content))

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        if digest not in self._kept:
            raise Refused(f"no blob {digest}", "no_blob")
        yield self._kept[digest]


def runtime_of_another_release() -> bytes:
    """Return the code of a runtime that is not the installed one: its package has `RELEASE`."""
    files = read_runtime(runtime_blob())
    return pack_runtime({**files, "__init__.py": files["__init__.py"] + b"\nRELEASE = 'another'\n"})
