"""The runtime's own code: what it is (its digest) and what it needs."""

import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path

from serai.errors import ConfigError
from serai.model import digest_of


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


@cache
def runtime_digest() -> str:
    """Return one digest over the runtime's code: it is part of every predictor's version."""
    parts = [f"{path.name}\0".encode() + path.read_bytes() for path in runtime_files()]
    return digest_of(b"\0".join(parts))


def runtime_requirements() -> tuple[str, ...]:
    """Return what the runtime needs, as it stands in the distribution's metadata."""
    return requirements_of_extra(requires("serai") or [], "runtime")


def requirements_of_extra(lines: Sequence[str], extra: str) -> tuple[str, ...]:
    """Return the requirements that stand under an extra; metadata quotes its name either way."""
    marker = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    wanted = [line for line in lines if marker.search(line)]
    return tuple(line.partition(";")[0].strip() for line in wanted)
