"""What each node of Nomad has for replicas, beyond what its other jobs take. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from serai.engine import Capacity
from serai_scheduler.nomad.placement import rooms_of
from serai_scheduler.nomad.settings import JobSettings

GPU = "gpu"
HOLDS_ITS_PLACE = ("pending", "running", "unknown")


def capacities(
    nodes: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    settings: JobSettings,
) -> dict[str, Capacity]:
    """Return the capacity of each node by its id; `others` are allocations of other jobs.

    Both lists are asked for with `resources`.
    """
    taken: dict[str, int] = {}
    for allocation in others:
        if allocation["ClientStatus"] in HOLDS_ITS_PLACE:
            node = allocation["NodeID"]
            taken[node] = taken.get(node, 0) + _gpus_of(allocation)
    gpus = {node["ID"]: _gpus_on(node) - taken.get(node["ID"], 0) for node in nodes}
    return {
        room.id: Capacity(
            cpu_millicores=max(0, room.free_cpu_mhz) * 1000 // settings.mhz_per_core,
            memory_mib=max(0, room.free_memory_mib),
            gpus=max(0, gpus[room.id]),
            unset_memory_mib=settings.default_memory_mib,
        )
        for room in rooms_of(nodes, others)
    }


def _gpus_on(node: Mapping[str, Any]) -> int:
    """Return how many GPUs a node has that work."""
    return sum(
        bool(instance.get("Healthy"))
        for device in node["NodeResources"].get("Devices") or ()
        if device.get("Type") == GPU
        for instance in device.get("Instances") or ()
    )


def _gpus_of(allocation: Mapping[str, Any]) -> int:
    tasks = (allocation.get("AllocatedResources") or {}).get("Tasks") or {}
    return sum(
        len(device.get("DeviceIDs") or ())
        for task in tasks.values()
        for device in task.get("Devices") or ()
        if device.get("Type") == GPU
    )
