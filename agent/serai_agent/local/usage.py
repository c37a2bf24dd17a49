"""What the processes of each replica use, from one look at all processes of the machine."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psutil

from serai.report import ReplicaUsage

Roots = Mapping[str, tuple[int, ...]]


class Kin(NamedTuple):
    """A process' parent, and when it was started: in units that only tell it from others."""

    parent: int
    started: int


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


def members(marked: Mapping[int, str], parents: Mapping[int, int]) -> dict[str, list[int]]:
    """Return the processes of each replica: those that are marked as its, and their kin. Pure.

    A process without a mark belongs to the nearest marked one above it.
    """
    owners: dict[int, str] = dict(marked)
    for pid in parents:
        line: list[int] = []
        while pid in parents and pid not in owners and pid not in line:
            line.append(pid)
            pid = parents[pid]
        owner = owners.get(pid, "")
        owners.update(dict.fromkeys(line, owner))
    found: dict[str, list[int]] = {}
    for pid, owner in owners.items():
        if owner:
            found.setdefault(owner, []).append(pid)
    return found


def kin_of_all() -> dict[int, Kin]:
    """Return the kin of every process; read directly on Linux, where there may be thousands."""
    found: dict[int, Kin] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b") ")[2].split(b" ", 20)
                    found[int(name)] = Kin(int(fields[1]), int(fields[19]))
    if found:
        return found
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            found[process.pid] = Kin(process.ppid(), int(process.create_time() * 100))
    return found


class UsageMeter:
    """Measures again and again; processor time is the difference to the look before."""

    def __init__(self) -> None:
        self._cpu_s: dict[tuple[int, float], float] = {}
        self._at_s: float | None = None

    def measure(self, roots: Roots, now_s: float) -> tuple[ReplicaUsage, ...]:
        """Return the use of each replica, given the processes above its own; for a thread."""
        parents = {pid: kin.parent for pid, kin in kin_of_all().items()}
        return self.measure_these(trees(roots, parents), now_s)

    def measure_these(
        self, processes: Mapping[str, Sequence[int]], now_s: float
    ) -> tuple[ReplicaUsage, ...]:
        """Return the use of each replica, given its own processes; for a thread."""
        seen: dict[tuple[int, float], float] = {}
        elapsed_s = now_s - self._at_s if self._at_s is not None else 0.0
        found = [self._one(name, pids, seen, elapsed_s) for name, pids in processes.items()]
        self._cpu_s, self._at_s = seen, now_s
        return tuple(found)

    def _one(
        self,
        replica: str,
        pids: Sequence[int],
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
