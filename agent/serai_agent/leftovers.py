"""Processes that outlived a crash, recognised by a variable that nobody else's have."""

import contextlib
import os

import psutil

WAIT_S = 1.0


def end_marked(variable: str, value: str) -> int:
    """Kill every process with this variable in its environment; return how many there were.

    Not by process ids, which may be somebody else's by now. Blocks for up to about a second.
    """
    count = 0
    waited_for: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(variable) == value:
                own = process.ppid() == os.getpid()
                process.kill()
                count += 1
                if not own:  # whoever started a child waits for it, and needs its exit code
                    waited_for.append(process)
    psutil.wait_procs(waited_for, timeout=WAIT_S)
    return count
