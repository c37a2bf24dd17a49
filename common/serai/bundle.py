"""The bundle of a version: content-addressed files plus a manifest.

Two components must agree on it: the CLI builds it, the scheduler stores it, the agent lays it out.
"""

from typing import Annotated

import msgspec

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
