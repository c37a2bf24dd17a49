"""Reads the machine: processor, load, memory and the disk that Serai writes to.

What the machine does not say is None. The disk is asked in a thread, at most one at a time: a dead
network file system blocks the caller for ever, and must cost the report one field, not its beat.
"""

import asyncio
from pathlib import Path

import psutil

from serai.model import Value
from serai_agent.report.beat import NodeReading

DISK_DEADLINE_S = 0.5


class Disk(Value):
    """A file system: its size, and what an ordinary process may still write, in bytes."""

    total_bytes: int
    free_bytes: int


class NodeReader:
    """Reads the machine again and again; `disk_path` lies on the disk that is told."""

    def __init__(self, disk_path: Path, disk_deadline_s: float = DISK_DEADLINE_S) -> None:
        self._disk_path = disk_path
        self._disk_deadline_s = disk_deadline_s
        self._disk: asyncio.Task[Disk | None] | None = None
        self._first = True

    async def read(self) -> NodeReading:
        """Return a reading within the disk's deadline; the first has no `cpu_percent`."""
        memory_total_bytes, memory_available_bytes = _memory()
        disk = await self._read_disk()
        return NodeReading(
            cpu_count=psutil.cpu_count() or 1,
            cpu_percent=self._cpu_percent(),
            load=_load(),
            memory_total_bytes=memory_total_bytes,
            memory_available_bytes=memory_available_bytes,
            disk_total_bytes=disk.total_bytes if disk else None,
            disk_free_bytes=disk.free_bytes if disk else None,
        )

    def _cpu_percent(self) -> float | None:
        """Return the use since the call before; the first has nothing to compare with."""
        first, self._first = self._first, False
        try:
            percent = psutil.cpu_percent(interval=None)
        except (psutil.Error, OSError):
            return None
        return None if first else percent

    async def _read_disk(self) -> Disk | None:
        """Return the disk, or None while it is waited for; a late answer serves the next call."""
        if self._disk is None:
            self._disk = asyncio.create_task(asyncio.to_thread(_disk_of, self._disk_path))
        done, _ = await asyncio.wait({self._disk}, timeout=self._disk_deadline_s)
        if not done:
            return None
        disk, self._disk = self._disk.result(), None
        return disk


def _memory() -> tuple[int | None, int | None]:
    try:
        memory = psutil.virtual_memory()
    except (psutil.Error, OSError):
        return None, None
    return memory.total, memory.available


def _load() -> tuple[float, float, float] | None:
    try:
        return psutil.getloadavg()
    except OSError:
        return None


def _disk_of(path: Path) -> Disk | None:
    try:
        usage = psutil.disk_usage(str(path))
    except OSError:
        return None
    return Disk(total_bytes=usage.total, free_bytes=usage.free)
