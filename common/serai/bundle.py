"""The bundle of a version: content-addressed files plus a manifest.

Two components must agree on it: the CLI builds it, the scheduler stores it, the agent lays it out.
"""

import re
from itertools import pairwise
from typing import Annotated

import msgspec

from serai.errors import ConfigError, Refused
from serai.model import Value

MAX_FILES = 100_000
MAX_MANIFEST_BYTES = 32 * 2**20
MAX_FILE_BYTES = 20 * 2**30
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ODD_PARTS = frozenset({"", ".", ".."})

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


def path_fault(path: str) -> str | None:
    """Say what is wrong with a bundle path, or None; a good one can never leave its folder."""
    if path.startswith("/"):
        return "it is absolute"
    if "\\" in path:
        return "it has a backslash"
    if _UNPRINTABLE.search(path):
        return "it has a control character"
    parts = path.split("/")
    if not _ODD_PARTS.isdisjoint(parts):
        return "it has an empty part, `.` or `..`"
    return _size_fault(path, parts)


def _size_fault(path: str, parts: list[str]) -> str | None:
    try:
        length_bytes = len(path.encode())
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if length_bytes > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        return f"a name in it is longer than {MAX_NAME_BYTES} bytes"
    return None


def check_manifest(manifest: Manifest) -> None:
    """Raise Refused (`bad_path`) unless every path is safe, unique, sorted and in the limits.

    Paths that differ in case only are allowed: replicas run on file systems that keep case, and
    a folder there may well hold both.
    """
    if len(manifest.files) > MAX_FILES:
        raise _bad(f"it lists {len(manifest.files)} files; {MAX_FILES} are allowed")
    for file in manifest.files:
        if fault := path_fault(file.path):
            raise _bad(f"the path {file.path!r} cannot be used: {fault}")
        if not 0 <= file.size_bytes <= MAX_FILE_BYTES:
            raise _bad(f"{file.path}: a file may hold at most {MAX_FILE_BYTES} bytes")
        if not re.fullmatch(r"[0-9a-f]{64}", file.digest):
            raise _bad(f"{file.path}: {file.digest!r} is not a SHA-256 digest in hexadecimal")
    _check_relations(manifest)


def _check_relations(manifest: Manifest) -> None:
    for one, other in pairwise(manifest.files):
        if one.path == other.path:
            raise _bad(f"the path {one.path} is listed twice")
        if one.path > other.path:
            raise _bad(f"its files are not sorted: {one.path} stands before {other.path}")
    paths = {file.path for file in manifest.files}
    for path in paths:
        end = path.find("/")
        while end != -1:
            if path[:end] in paths:
                raise _bad(f"{path[:end]} is a file and also the folder of {path}")
            end = path.find("/", end + 1)
    sizes: dict[str, int] = {}
    for file in manifest.files:
        if sizes.setdefault(file.digest, file.size_bytes) != file.size_bytes:
            raise _bad(f"{file.path}: another file of the same digest has another size")


def _bad(why: str) -> Refused:
    return Refused(f"the manifest of the bundle is not acceptable: {why}", "bad_path")


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the one JSON form of a manifest; Refused when it is too long to be stored."""
    data = msgspec.json.encode(manifest)
    if len(data) > MAX_MANIFEST_BYTES:
        raise _bad(f"it is {len(data)} bytes long; {MAX_MANIFEST_BYTES} are allowed")
    return data


def read_manifest(data: bytes) -> Manifest:
    """Read and check a stored manifest; Refused (`bad_path`) or ConfigError (not JSON)."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise _bad(f"it is {len(data)} bytes long; {MAX_MANIFEST_BYTES} are allowed")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"not a valid manifest of a bundle: {error}") from error
    check_manifest(manifest)
    return manifest
