"""What of a cache is in use: seen on the node's processes, and noted as the time of last use.

Nomad's tasks are not this agent's processes, but all of them name their environment and bundle: by
their command line, or as the folder that they run in. A task between two starts is on no process;
what was seen on one lately stays all the same (`CacheSettings.kept_s`).
"""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import psutil

from serai.cache_names import BUNDLES, ENVIRONMENT_MARKER, ENVIRONMENTS, MANIFEST_SUFFIX


def markers_named(texts: Iterable[str], cache: Path) -> frozenset[Path]:
    """Return the markers of all environments and bundles below `cache` that the texts name."""
    kinds = f"({ENVIRONMENTS}|{BUNDLES})"
    pattern = re.compile(rf"{re.escape(str(cache))}/{kinds}/([A-Za-z0-9][A-Za-z0-9._-]*)")
    found = {match.groups() for text in texts for match in pattern.finditer(text)}
    return frozenset(
        cache / kind / name / ENVIRONMENT_MARKER
        if kind == ENVIRONMENTS
        else cache / kind / f"{name}{MANIFEST_SUFFIX}"
        for kind, name in found
    )


def note_use(cache: Path) -> int:
    """Set the time of all that is in use to now; return how many there were. For a thread."""
    noted = 0
    for marker in markers_named(_words_of_processes(), cache):
        with contextlib.suppress(OSError):
            os.utime(marker)
            noted += 1
    return noted


def _words_of_processes() -> Iterable[str]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            yield from process.cmdline()
        with contextlib.suppress(psutil.Error, OSError):  # for processes of other users only root
            yield process.cwd()
