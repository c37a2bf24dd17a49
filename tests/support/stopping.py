"""Processes that stand still, as on an overloaded machine."""

import contextlib
import os
import signal
from pathlib import Path

from tests.support.wait import until

STOPPED = "T"


def stand_still(pid: int) -> None:
    """Stop a process, and return once each of its threads has: the kernel tells them in turns."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: _states(pid) == {STOPPED}, what=f"process {pid} does not stop")


def _states(pid: int) -> set[str]:
    """Return the states of all threads; the name before them may hold anything but a last `)`."""
    found = set()
    for file in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found.add(file.read_text().rpartition(")")[2].split()[0])
    return found
