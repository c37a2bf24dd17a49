"""Amounts of what nodes have and replicas ask for: what lacks, and how it is told. Pure."""

from collections.abc import Sequence
from typing import Self

from serai.model import Value
from serai_scheduler.nomad.rooms import Ask, Room

MIB_PER_GIB = 1024


class Amounts(Value):
    """What there is of each; `disk_mib` is None where that is not known."""

    cpu_mhz: int
    memory_mib: int
    disk_mib: int | None
    gpus: int

    @classmethod
    def of(cls, ask: Ask) -> Self:
        return cls(
            cpu_mhz=ask.cpu_mhz,
            memory_mib=ask.memory_mib,
            disk_mib=ask.disk_mib,
            gpus=ask.gpus,
        )

    def hold(self, ask: Ask) -> bool:
        """Say whether they are enough; what is not known is."""
        return all(has >= asked for asked, has in self._beside(ask))

    def share_lacking(self, ask: Ask) -> float:
        """Return the largest part that lacks of anything that is asked for."""
        return max((asked - has) / max(1, asked) for asked, has in self._beside(ask))

    def _beside(self, ask: Ask) -> Sequence[tuple[int, int]]:
        disk_mib = ask.disk_mib if self.disk_mib is None else self.disk_mib
        return (
            (ask.cpu_mhz, self.cpu_mhz),
            (ask.memory_mib, self.memory_mib),
            (ask.disk_mib, disk_mib),
            (ask.gpus, self.gpus),
        )


def all_of(room: Room) -> Amounts:
    """Return what a node has in all."""
    return Amounts(
        cpu_mhz=room.cpu_mhz, memory_mib=room.memory_mib, disk_mib=room.disk_mib, gpus=room.gpus
    )


def free_of(room: Room) -> Amounts:
    """Return what is free on a node."""
    return Amounts(
        cpu_mhz=room.free_cpu_mhz,
        memory_mib=room.free_memory_mib,
        disk_mib=None if room.disk_mib is None else room.free_disk_mib,
        gpus=room.free_gpus,
    )


class Words(Value):
    """How amounts are told: processor and memory always, the others where they matter."""

    mhz_per_core: int
    disk: bool
    gpus: bool

    def told(self, has: Amounts) -> str:
        """Return what there is, such as `1.5 cores, 2.0Gi and 1 GPU`."""
        parts = [f"{max(0, has.cpu_mhz) / self.mhz_per_core:.1f} cores", _size(has.memory_mib)]
        if self.disk and has.disk_mib is not None:
            parts.append(f"{_size(has.disk_mib)} of disk")
        if self.gpus:
            parts.append(_gpus(max(0, has.gpus)))
        return _joined(parts)

    def lacks(self, ask: Ask, has: Amounts) -> str:
        """Return what there is too little of, "" where there is enough of all."""
        parts = []
        if (cpu_mhz := ask.cpu_mhz - has.cpu_mhz) > 0:
            parts.append(f"{cpu_mhz / self.mhz_per_core:.1f} cores")
        if (memory_mib := ask.memory_mib - has.memory_mib) > 0:
            parts.append(_size(memory_mib))
        if has.disk_mib is not None and (disk_mib := ask.disk_mib - has.disk_mib) > 0:
            parts.append(f"{_size(disk_mib)} of disk")
        if (gpus := ask.gpus - max(0, has.gpus)) > 0:
            parts.append(_gpus(gpus))
        return _joined(parts)


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([*([", ".join(parts[:-1])] if len(parts) > 1 else []), *parts[-1:]])


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' if count != 1 else ''}"


def _size(mib: int) -> str:
    mib = max(0, mib)
    return f"{mib / MIB_PER_GIB:.1f}Gi" if mib >= MIB_PER_GIB else f"{mib}Mi"
