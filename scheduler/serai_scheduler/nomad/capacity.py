"""What each node of Nomad has for replicas, beyond what its other jobs take. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from serai.engine import Capacity
from serai_scheduler.nomad.rooms import rooms_of
from serai_scheduler.nomad.settings import JobSettings


def capacities(
    nodes: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    settings: JobSettings,
) -> dict[str, Capacity]:
    """Return the capacity of each node by its id; `others` are allocations of other jobs.

    Both lists are asked for with `resources`.
    """
    return {
        room.id: Capacity(
            cpu_millicores=max(0, room.free_cpu_mhz) * 1000 // settings.mhz_per_core,
            memory_mib=max(0, room.free_memory_mib),
            gpus=max(0, room.free_gpus),
            unset_memory_mib=settings.default_memory_mib,
        )
        for room in rooms_of(nodes, others)
    }
