"""What the processes of each replica use, from one look at all processes of the machine."""

import contextlib
import os
from collections.abc import Mapping

import psutil

from serai.report import ReplicaUsage

Roots = Mapping[str, tuple[int, ...]]


def trees(roots: Roots, parents: Mapping[int, int]) -> dict[str, list[int]]:
    """Return the processes below the roots of each replica, the roots left out. Pure."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: dict[str, list[int]] = {}
    for name, tops in roots.items():
        below: list[int] = []
        waiting = list(tops)
        while waiting:
            born = [pid for pid in children.get(waiting.pop(), []) if pid not in tops]
            below += born
            waiting += born
        found[name] = below
    return found


def parents_of_all() -> dict[int, int]:
    """Return the parent of every process; read directly on Linux, where there may be thousands."""
    parents: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                    parents[int(name)] = int(file.read().rpartition(b") ")[2].split(b" ", 2)[1])
    if parents:
        return parents
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            parents[process.pid] = process.ppid()
    return parents


class UsageMeter:
    """Measures again and again; processor time is the difference to the look before."""

    def __init__(self) -> None:
        self._cpu_s: dict[tuple[int, float], float] = {}
        self._at_s: float | None = None

    def measure(self, roots: Roots, now_s: float) -> tuple[ReplicaUsage, ...]:
        """Return the use of each replica, given the processes above its own; for a thread."""
        seen: dict[tuple[int, float], float] = {}
        elapsed_s = now_s - self._at_s if self._at_s is not None else 0.0
        found = [
            self._one(name, below, seen, elapsed_s)
            for name, below in trees(roots, parents_of_all()).items()
        ]
        self._cpu_s, self._at_s = seen, now_s
        return tuple(found)

    def _one(
        self,
        replica: str,
        pids: list[int],
        seen: dict[tuple[int, float], float],
        elapsed_s: float,
    ) -> ReplicaUsage:
        used_s, memory_bytes, count = 0.0, 0, 0
        for pid in pids:
            with contextlib.suppress(psutil.Error, OSError):  # it may end while it is looked at
                process = psutil.Process(pid)
                with process.oneshot():
                    key = (process.pid, process.create_time())
                    times = process.cpu_times()
                    memory_bytes += process.memory_info().rss
                count += 1
                seen[key] = times.user + times.system
                used_s += seen[key] - self._cpu_s.get(key, seen[key])
        cores = used_s / elapsed_s if elapsed_s > 0 else 0.0
        return ReplicaUsage(
            replica=replica, cpu_cores=round(cores, 3), memory_bytes=memory_bytes, processes=count
        )
