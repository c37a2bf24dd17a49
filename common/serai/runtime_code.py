"""The runtime's own code: what it is (its digest), what it needs, and how it travels.

Every predictor's version names the runtime it was made with by digest. That is the digest of the
code packed by `runtime_blob`, so that the blobs can hold it: a node of another release of Serai
gets the very runtime that a version was tested with.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

from serai.errors import ConfigError
from serai.model import digest_of

FILE_NAME = re.compile(r"[A-Za-z_]\w*\.py", re.ASCII)


@cache
def runtime_folder() -> Path:
    """Return the folder of the installed runtime package."""
    spec = find_spec("serai_runtime")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the runtime is not installed; install it with: pip install 'serai[up]'")
    return Path(spec.submodule_search_locations[0])


def runtime_files() -> list[Path]:
    """Return the files that make up the runtime, in a fixed order."""
    return sorted(runtime_folder().glob("*.py"))


def runtime_blob() -> bytes:
    """Return the installed runtime's code as one blob, read anew each time."""
    return pack_runtime({path.name: path.read_bytes() for path in runtime_files()})


def pack_runtime(files: Mapping[str, bytes]) -> bytes:
    """Return a runtime's files as one blob: names and contents in turn, between zero bytes."""
    return b"\0".join(f"{name}\0".encode() + files[name] for name in sorted(files))


def read_runtime(blob: bytes) -> dict[str, bytes]:
    """Return the files of a runtime by name; ConfigError for what `runtime_blob` never makes."""
    parts = blob.split(b"\0")  # no source of Python holds a zero byte
    names = [part.decode("ascii", "replace") for part in parts[::2]]
    fit = len(parts) % 2 == 0 and len(set(names)) == len(names)
    if not fit or not all(FILE_NAME.fullmatch(name) for name in names):
        raise ConfigError("the stored code of the runtime is damaged; deploy the API again")
    return dict(zip(names, parts[1::2], strict=True))


@cache
def runtime_digest() -> str:
    """Return one digest over the runtime's code: it is part of every predictor's version."""
    return digest_of(runtime_blob())


def runtime_requirements() -> tuple[str, ...]:
    """Return what the runtime needs, as it stands in the distribution's metadata."""
    return requirements_of_extra(requires("serai") or [], "runtime")


def requirements_of_extra(lines: Sequence[str], extra: str) -> tuple[str, ...]:
    """Return the requirements that stand under an extra; metadata quotes its name either way."""
    marker = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    wanted = [line for line in lines if marker.search(line)]
    return tuple(line.partition(";")[0].strip() for line in wanted)
