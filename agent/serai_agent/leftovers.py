"""Processes that outlived a crash, recognised by a variable that nobody else's have."""

import contextlib

import psutil

WAIT_S = 1.0


def end_marked(variable: str, value: str) -> int:
    """Kill every process with this variable in its environment; return how many there were.

    Not by process ids, which may be somebody else's by now. Blocks for up to about a second.
    """
    ended: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(variable) == value:
                process.kill()
                ended.append(process)
    psutil.wait_procs(ended, timeout=WAIT_S)
    return len(ended)
