"""Why Nomad has not placed a replica, in words: what was asked, what each node has. Pure.

Nomad's own account of a failed placement (AllocMetric of an evaluation) counts nodes by reason and
gives no amounts; those come from its lists of nodes and allocations.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import field

from serai.model import Value
from serai_scheduler.nomad.fitting import fits, in_words, why_none_fits
from serai_scheduler.nomad.where import ANYWHERE, DEFAULT_POOL, Asked, as_nomad_words_it

NODES_SHOWN = 5
MIB_PER_GIB = 1024
SAME_KIND = "computed class ineligible"
"""What Nomad says of a node that is like another one that it has looked at."""


class Ask(Value):
    """What one replica needs on one node; `disk_mib` is for its files and logs."""

    cpu_mhz: int
    memory_mib: int
    disk_mib: int = 0


class Room(Value):
    """What a node offers in all, and what of it is free; `takes` says whether it takes replicas.

    `closed` is a word for why it takes none, where that is known. `meta` holds those of its entries
    that were asked about.
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


class NotPlaced(Value):
    """Why a replica has no node. `may_clear` is False when only a change of spec or nodes helps."""

    may_clear: bool
    reason: str


# What there is --------------------------------------------------------------------------------


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
    disk_mib = (group.get("EphemeralDisk") or {}).get("SizeMB", 0)
    return msgspec.structs.replace(asked, disk_mib=disk_mib)


def rooms_of(
    nodes: Sequence[Mapping[str, Any]], allocations: Sequence[Mapping[str, Any]]
) -> tuple[Room, ...]:
    """Return the room of each node, by name; both lists are asked for with `resources`.

    An allocation counts until its client says that it has ended: until then Nomad keeps its place.
    """
    used: dict[str, list[Ask]] = {}
    for allocation in allocations:
        if allocation["ClientStatus"] in ("pending", "running", "unknown"):
            used.setdefault(allocation["NodeID"], []).append(_used(allocation))
    rooms = (_room(node, used.get(node["ID"], [])) for node in nodes)
    return tuple(sorted(rooms, key=lambda room: room.node))


def _used(allocation: Mapping[str, Any]) -> Ask:
    resources = allocation.get("AllocatedResources") or {}
    tasks = {
        name: Ask(cpu_mhz=task["Cpu"]["CpuShares"], memory_mib=task["Memory"]["MemoryMB"])
        for name, task in (resources.get("Tasks") or {}).items()
    }
    return _together(tasks, resources.get("TaskLifecycles") or {})


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
    )


def _closed(node: Mapping[str, Any]) -> str:
    """Return a word for why a node takes nothing new, "" for one that does."""
    if node["Status"] != "ready":
        return str(node["Status"])
    if node.get("Drain"):
        return "draining"
    return "" if node["SchedulingEligibility"] == "eligible" else "cordoned"


# Why it does not fit ----------------------------------------------------------------------------


def why_not_placed(
    ask: Ask,
    rooms: Sequence[Room],
    metric: Mapping[str, Any],
    mhz_per_core: int,
    where: Asked = ANYWHERE,
) -> NotPlaced:
    """Explain a failed placement; `metric` is FailedTGAllocs of the group in the evaluation.

    `where` says which of the nodes may take it.
    """
    if not rooms:
        return NotPlaced(
            may_clear=True,
            reason="no node takes replicas: none is known; start an agent on one",
        )
    fitting = [room for room in rooms if fits(room, where)]
    if not fitting:
        return NotPlaced(may_clear=False, reason=why_none_fits(rooms, where))
    open_rooms = [room for room in fitting if room.takes]
    if not open_rooms:
        these = in_words(where)
        which = f"no node {these} takes" if these else "no node takes"
        return NotPlaced(
            may_clear=True,
            reason=f"{which} replicas: {len(fitting)} known, all of them down, cordoned or "
            "draining",
        )
    told = _without(metric, as_nomad_words_it(where))
    large = [room for room in fitting if _holds(room.cpu_mhz, room.memory_mib, ask)]
    if not any(room.takes for room in large):
        return _too_large(ask, large, fitting, mhz_per_core)
    return _without_room(ask, open_rooms, told, mhz_per_core)


def _too_large(
    ask: Ask, large: Sequence[Room], fitting: Sequence[Room], mhz_per_core: int
) -> NotPlaced:
    """Explain it where no node that takes replicas could hold it, not even an empty one.

    `large` are those of the `fitting` nodes that could.
    """
    asked = _amounts(ask.cpu_mhz, ask.memory_mib, mhz_per_core)
    if large:
        these = _shown([f"{one.node} ({one.closed or 'closed'})" for one in large])
        return NotPlaced(
            may_clear=True,
            reason=f"waits for a node that is closed now: asks for {asked}; would fit on {these} "
            "once replicas are taken there, as by `serai node uncordon`; no other node has as much",
        )
    largest = max(fitting, key=lambda room: (room.memory_mib, room.cpu_mhz))
    has = _amounts(largest.cpu_mhz, largest.memory_mib, mhz_per_core)
    return NotPlaced(
        may_clear=False,
        reason=f"asks for {asked}, more than any node has in all (the largest, {largest.node}, "
        f"has {has}): ask for less, or add a larger node",
    )


def _without(metric: Mapping[str, Any], asked: Collection[str]) -> Mapping[str, Any]:
    """Return Nomad's account without the nodes that the spec does not want."""
    filtered = metric.get("ConstraintFiltered") or {}
    left_out = {*asked, SAME_KIND} if asked else set()
    kept = {text: count for text, count in filtered.items() if text not in left_out}
    return {**metric, "ConstraintFiltered": kept}


def _without_room(
    ask: Ask, open_rooms: Sequence[Room], metric: Mapping[str, Any], mhz_per_core: int
) -> NotPlaced:
    """Explain it where nodes would take it, if they had what it needs."""
    asked = _amounts(ask.cpu_mhz, ask.memory_mib, mhz_per_core)
    filtered = [_filtered(text, count) for text, count in _counts(metric, "ConstraintFiltered")]
    exhausted = [text for text, _ in _counts(metric, "DimensionExhausted")]
    if filtered and not exhausted:
        return NotPlaced(may_clear=False, reason=f"no node can ever run it: {'; '.join(filtered)}")
    others = [_exhausted(text, ask) for text in exhausted if text not in ("cpu", "memory")]
    free = [
        f"{room.node} {_amounts(room.free_cpu_mhz, room.free_memory_mib, mhz_per_core)}"
        for room in open_rooms
    ]
    told = [f"waits for room: asks for {asked}; free: {_shown(free)}"]
    told += [*_would_fit(ask, open_rooms, mhz_per_core), *others, *filtered]
    return NotPlaced(may_clear=True, reason="; ".join(told))


def _would_fit(ask: Ask, open_rooms: Sequence[Room], mhz_per_core: int) -> list[str]:
    """Say what has to become free where the least has to; nothing where enough is."""
    near = min(
        (room for room in open_rooms if _holds(room.cpu_mhz, room.memory_mib, ask)),
        key=lambda room: max(
            (ask.cpu_mhz - room.free_cpu_mhz) / max(1, ask.cpu_mhz),
            (ask.memory_mib - room.free_memory_mib) / max(1, ask.memory_mib),
        ),
    )
    cpu_mhz, memory_mib = ask.cpu_mhz - near.free_cpu_mhz, ask.memory_mib - near.free_memory_mib
    lacks = [f"{cpu_mhz / mhz_per_core:.1f} cores"] if cpu_mhz > 0 else []
    lacks += [_memory(memory_mib)] if memory_mib > 0 else []
    return [f"would fit if {' and '.join(lacks)} more were free on {near.node}"] if lacks else []


def _shown(all_of_them: Sequence[str]) -> str:
    shown = list(all_of_them[:NODES_SHOWN])
    if (more := len(all_of_them) - len(shown)) > 0:
        shown.append(f"{more} more")
    return ", ".join(shown)


def _holds(cpu_mhz: int, memory_mib: int, ask: Ask) -> bool:
    return cpu_mhz >= ask.cpu_mhz and memory_mib >= ask.memory_mib


def _counts(metric: Mapping[str, Any], key: str) -> list[tuple[str, int]]:
    return sorted((metric.get(key) or {}).items())


def _filtered(text: str, count: int) -> str:
    nodes = f"{count} node{'s' if count != 1 else ''}"
    known = {
        "missing drivers": f"{nodes} without a driver that it needs (is dockerd running there?)",
        "missing devices": f"{nodes} without such a GPU",
        "missing compatible host volumes": f"{nodes} without a host volume that it needs",
        SAME_KIND: f"{nodes} like another one that cannot",
    }
    if text in known:
        return known[text]
    if "attr.consul.version" in text:
        return f"{nodes} that have not found Consul yet"
    return f"{nodes} that do not meet {text}"


def _exhausted(text: str, ask: Ask) -> str:
    if text == "disk":
        return f"no more disk: its files and logs may take {ask.disk_mib}Mi"
    if text.startswith("devices:"):
        return "all GPUs are taken"
    return f"no more {text}"


def _amounts(cpu_mhz: int, memory_mib: int, mhz_per_core: int) -> str:
    cores = max(0, cpu_mhz) / mhz_per_core
    return f"{cores:.1f} cores and {_memory(max(0, memory_mib))}"


def _memory(mib: int) -> str:
    return f"{mib / MIB_PER_GIB:.1f}Gi" if mib >= MIB_PER_GIB else f"{mib}Mi"
