"""What a replica asks for, and what each node of Nomad has in all and free. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import field

from serai.model import Value
from serai_scheduler.nomad.where import DEFAULT_POOL

GPU = "gpu"
HOLDS_ITS_PLACE = ("pending", "running", "unknown")


class Ask(Value):
    """What one replica needs on one node; `disk_mib` is for its files and logs."""

    cpu_mhz: int
    memory_mib: int
    disk_mib: int = 0
    gpus: int = 0
    drivers: tuple[str, ...] = ()


class Room(Value):
    """What a node offers in all, and what of it is free; `takes` says whether it takes replicas.

    `closed` is a word for why it takes none, where that is known. `meta` holds those of its entries
    that were asked about. `drivers` are those that work there; it is None, as `disk_mib` is, where
    Nomad does not tell.
    """

    node: str
    takes: bool
    cpu_mhz: int
    memory_mib: int
    free_cpu_mhz: int
    free_memory_mib: int
    id: str = ""
    pool: str = DEFAULT_POOL
    node_class: str = ""
    closed: str = ""
    meta: dict[str, str] = field(default_factory=dict)
    disk_mib: int | None = None
    free_disk_mib: int = 0
    gpus: int = 0
    free_gpus: int = 0
    drivers: tuple[str, ...] | None = None


def ask_of(group: Mapping[str, Any]) -> Ask:
    """Return what a group of a job needs: its tasks that run at the same time, together."""
    tasks = group["Tasks"]
    hooks = {task["Name"]: task.get("Lifecycle") for task in tasks}
    asked = _together(
        {
            task["Name"]: Ask(
                cpu_mhz=task["Resources"]["CPU"], memory_mib=task["Resources"]["MemoryMB"]
            )
            for task in tasks
        },
        hooks,
    )
    devices = [one for task in tasks for one in task["Resources"].get("Devices") or ()]
    return msgspec.structs.replace(
        asked,
        disk_mib=(group.get("EphemeralDisk") or {}).get("SizeMB", 0),
        gpus=sum(one["Count"] for one in devices if GPU in one["Name"].split("/")),
        drivers=tuple(sorted({task["Driver"] for task in tasks if task.get("Driver")})),
    )


def rooms_of(
    nodes: Sequence[Mapping[str, Any]], allocations: Sequence[Mapping[str, Any]]
) -> tuple[Room, ...]:
    """Return the room of each node, by name; both lists are asked for with `resources`.

    An allocation counts until its client says that it has ended: until then Nomad keeps its place.
    """
    used: dict[str, list[Ask]] = {}
    for allocation in allocations:
        if allocation["ClientStatus"] in HOLDS_ITS_PLACE:
            used.setdefault(allocation["NodeID"], []).append(_used(allocation))
    rooms = (_room(node, used.get(node["ID"], [])) for node in nodes)
    return tuple(sorted(rooms, key=lambda room: room.node))


def _used(allocation: Mapping[str, Any]) -> Ask:
    resources = allocation.get("AllocatedResources") or {}
    found = resources.get("Tasks") or {}
    tasks = {
        name: Ask(cpu_mhz=task["Cpu"]["CpuShares"], memory_mib=task["Memory"]["MemoryMB"])
        for name, task in found.items()
    }
    return msgspec.structs.replace(
        _together(tasks, resources.get("TaskLifecycles") or {}),
        disk_mib=(resources.get("Shared") or {}).get("DiskMB", 0),
        gpus=sum(
            len(device.get("DeviceIDs") or ())
            for task in found.values()
            for device in _gpus(task.get("Devices"))
        ),
    )


def _gpus(devices: Iterable[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    return [one for one in devices or () if one.get("Type") == GPU]


def _together(tasks: Mapping[str, Ask], hooks: Mapping[str, Mapping[str, Any] | None]) -> Ask:
    """Add tasks up as Nomad does: those that end before the others start share their place."""
    before: list[Ask] = []
    during: list[Ask] = []
    for name, ask in tasks.items():
        hook = hooks.get(name) or {}
        ends_first = hook.get("Hook") == "prestart" and not hook.get("Sidecar")
        (before if ends_first else during).append(ask)
    return Ask(
        cpu_mhz=max(sum(a.cpu_mhz for a in before), sum(a.cpu_mhz for a in during)),
        memory_mib=max(sum(a.memory_mib for a in before), sum(a.memory_mib for a in during)),
    )


def _room(node: Mapping[str, Any], used: Sequence[Ask]) -> Room:
    offered, kept = node["NodeResources"], node.get("ReservedResources") or {}
    cpu_mhz = offered["Cpu"]["CpuShares"] - (kept.get("Cpu") or {}).get("CpuShares", 0)
    memory_mib = offered["Memory"]["MemoryMB"] - (kept.get("Memory") or {}).get("MemoryMB", 0)
    disk_mib = _disk_mib(offered, kept)
    gpus = sum(
        bool(instance.get("Healthy"))
        for device in _gpus(offered.get("Devices"))
        for instance in device.get("Instances") or ()
    )
    closed = _closed(node)
    return Room(
        id=node["ID"],
        node=node["Name"],
        takes=not closed,
        closed=closed,
        cpu_mhz=cpu_mhz,
        memory_mib=memory_mib,
        free_cpu_mhz=cpu_mhz - sum(ask.cpu_mhz for ask in used),
        free_memory_mib=memory_mib - sum(ask.memory_mib for ask in used),
        pool=node.get("NodePool") or DEFAULT_POOL,
        node_class=node.get("NodeClass") or "",
        disk_mib=disk_mib,
        free_disk_mib=(disk_mib or 0) - sum(ask.disk_mib for ask in used),
        gpus=gpus,
        free_gpus=gpus - sum(ask.gpus for ask in used),
        drivers=_drivers(node),
    )


def _disk_mib(offered: Mapping[str, Any], kept: Mapping[str, Any]) -> int | None:
    if "Disk" not in offered:
        return None
    told: int = offered["Disk"]["DiskMB"]
    return told - int((kept.get("Disk") or {}).get("DiskMB", 0))


def _drivers(node: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the drivers that work; a node that is down tells those that it had."""
    told = node.get("Drivers")
    if not told:
        return None
    return tuple(sorted(name for name, one in told.items() if one and one.get("Healthy")))


def _closed(node: Mapping[str, Any]) -> str:
    """Return a word for why a node takes nothing new, "" for one that does."""
    if node["Status"] != "ready":
        return str(node["Status"])
    if node.get("Drain"):
        return "draining"
    return "" if node["SchedulingEligibility"] == "eligible" else "cordoned"
