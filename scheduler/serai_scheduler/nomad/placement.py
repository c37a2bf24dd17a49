"""Why Nomad has not placed a replica, in words: what was asked, what each node has. Pure.

Nomad's own account of a failed placement (AllocMetric of an evaluation) counts nodes by reason and
gives no amounts; those come from its lists of nodes and allocations.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from serai.model import Value
from serai_scheduler.nomad.amounts import Amounts, Words, all_of, free_of
from serai_scheduler.nomad.fitting import fits, in_words, why_none_fits
from serai_scheduler.nomad.rooms import Ask, Room
from serai_scheduler.nomad.where import ANYWHERE, Asked, as_nomad_words_it

NODES_SHOWN = 5
SAME_KIND = "computed class ineligible"
"""What Nomad says of a node that is like another one that it has looked at."""


class NotPlaced(Value):
    """Why a replica has no node. `may_clear` is False when only a change of spec or nodes helps."""

    may_clear: bool
    reason: str


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
    words = _words(ask, fitting, told, mhz_per_core)
    able = [room for room in fitting if _has_drivers(room, ask) and all_of(room).hold(ask)]
    if not any(room.takes for room in able):
        return _nowhere(ask, able, fitting, told, words)
    return _without_room(ask, [room for room in able if room.takes], told, words)


def _words(ask: Ask, rooms: Sequence[Room], metric: Mapping[str, Any], mhz_per_core: int) -> Words:
    """Return how amounts are told: disk where it is what lacks, GPUs where some are asked for."""
    small = any(room.disk_mib is not None and room.disk_mib < ask.disk_mib for room in rooms)
    disk = small or "disk" in (metric.get("DimensionExhausted") or {})
    return Words(mhz_per_core=mhz_per_core, disk=disk, gpus=ask.gpus > 0)


def _has_drivers(room: Room, ask: Ask) -> bool:
    return room.drivers is None or set(ask.drivers) <= set(room.drivers)


def _nowhere(
    ask: Ask,
    able: Sequence[Room],
    fitting: Sequence[Room],
    metric: Mapping[str, Any],
    words: Words,
) -> NotPlaced:
    """Explain it where no node that takes replicas could hold it, not even an empty one.

    `able` are those of the `fitting` nodes that could.
    """
    asked = words.told(Amounts.of(ask))
    large = [room for room in fitting if all_of(room).hold(ask)]
    if able:
        these = _shown([f"{one.node} ({one.closed or 'closed'})" for one in able])
        without = any(room.takes for room in large)  # of its drivers alone
        has = f"its {_drivers(ask)}" if without else "as much"
        return NotPlaced(
            may_clear=True,
            reason=f"waits for a node that is closed now: asks for {asked}; would fit on {these} "
            f"once replicas are taken there, as by `serai node uncordon`; no other node has {has}",
        )
    if large:
        filtered = _all_filtered(metric) or [f"none has its {_drivers(ask)}"]
        return NotPlaced(may_clear=False, reason=f"no node can ever run it: {'; '.join(filtered)}")
    largest = max(fitting, key=lambda room: (room.gpus >= ask.gpus, room.memory_mib, room.cpu_mhz))
    has = words.told(all_of(largest))
    return NotPlaced(
        may_clear=False,
        reason=f"asks for {asked}, more than any node has in all (the largest, {largest.node}, "
        f"has {has}): ask for less, or add a larger node",
    )


def _drivers(ask: Ask) -> str:
    return f"driver{'s' if len(ask.drivers) > 1 else ''} ({', '.join(ask.drivers)})"


def _without(metric: Mapping[str, Any], asked: Collection[str]) -> Mapping[str, Any]:
    """Return Nomad's account without the nodes that the spec does not want."""
    filtered = metric.get("ConstraintFiltered") or {}
    left_out = {*asked, SAME_KIND} if asked else set()
    kept = {text: count for text, count in filtered.items() if text not in left_out}
    return {**metric, "ConstraintFiltered": kept}


def _without_room(
    ask: Ask, able: Sequence[Room], metric: Mapping[str, Any], words: Words
) -> NotPlaced:
    """Explain it where nodes would take it, if they had what it needs."""
    filtered = _all_filtered(metric)
    exhausted = [text for text, _ in _counts(metric, "DimensionExhausted")]
    if filtered and not exhausted:
        return NotPlaced(may_clear=False, reason=f"no node can ever run it: {'; '.join(filtered)}")
    others = [_exhausted(text, ask) for text in exhausted if text not in ("cpu", "memory")]
    free = [f"{room.node} {words.told(free_of(room))}" for room in able]
    told = [f"waits for room: asks for {words.told(Amounts.of(ask))}; free: {_shown(free)}"]
    told += [*_would_fit(ask, able, words), *others, *filtered]
    return NotPlaced(may_clear=True, reason="; ".join(told))


def _would_fit(ask: Ask, able: Sequence[Room], words: Words) -> list[str]:
    """Say what has to become free where the least has to; nothing where enough is."""
    near = min(able, key=lambda room: free_of(room).share_lacking(ask))
    lacks = words.lacks(ask, free_of(near))
    return [f"would fit if {lacks} more were free on {near.node}"] if lacks else []


def _shown(all_of_them: Sequence[str]) -> str:
    shown = list(all_of_them[:NODES_SHOWN])
    if (more := len(all_of_them) - len(shown)) > 0:
        shown.append(f"{more} more")
    return ", ".join(shown)


def _counts(metric: Mapping[str, Any], key: str) -> list[tuple[str, int]]:
    return sorted((metric.get(key) or {}).items())


def _all_filtered(metric: Mapping[str, Any]) -> list[str]:
    return [_filtered(text, count) for text, count in _counts(metric, "ConstraintFiltered")]


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
