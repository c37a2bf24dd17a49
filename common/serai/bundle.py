"""The bundle of a version: content-addressed files plus a manifest.

Two components must agree on it: the CLI builds it, the scheduler stores it, the agent lays it out.
"""

from typing import Annotated

import msgspec

from serai.errors import Refused
from serai.model import Value

MAX_FILES = 100_000
MAX_MANIFEST_BYTES = 32 * 2**20
MAX_FILE_BYTES = 20 * 2**30
MAX_PATH_BYTES = 1024

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class BundleFile(Value):
    """One file: `path` is relative with `/`, normalised, and never leaves the folder."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PATH_BYTES)]
    digest: Digest
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]
    executable: bool = False


class Manifest(Value):
    """The files of a bundle, sorted by path. Its own digest (of its JSON) names the bundle."""

    files: Annotated[tuple[BundleFile, ...], msgspec.Meta(max_length=MAX_FILES)]


def check_manifest(manifest: Manifest) -> None:
    """Raise Refused when a path could leave its folder or stands twice."""
    folders: set[str] = set()
    seen: set[str] = set()
    for file in manifest.files:
        path = file.path
        parts = path.split("/")
        bad = "\\" in path or any(ord(c) < 32 for c in path) or len(path.encode()) > MAX_PATH_BYTES
        if bad or path.startswith("/") or any(part in ("", ".", "..") for part in parts):
            raise Refused(f"the bundle holds an unusable path: {path!r}", "bad_path")
        if path in seen:
            raise Refused(f"the bundle holds {path!r} twice", "bad_path")
        seen.add(path)
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if clash := sorted(folders & seen):
        raise Refused(f"the bundle holds {clash[0]!r} as a file and as a folder", "bad_path")
