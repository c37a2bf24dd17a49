"""Why a replica has failed, from how it ended and what it wrote last. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from serai.ended import found_its_port_taken
from serai.model import Replica
from serai_scheduler.nomad.reading import waited_in_vain
from serai_scheduler.nomad.tasks import MAIN_TASK

MOST_CHARACTERS = 200
LAST_OF_THE_RUNTIME = ("predictor cannot be served", "giving up")
"""Its events that tell why it ends, in `why`."""


def in_full(replica: Replica, allocation: Mapping[str, Any], tail: Sequence[str]) -> str:
    """Return the reason of a failed replica with what its last lines and its limits add."""
    reason, end = replica.reason, replica.exit
    last = next((line.strip() for line in reversed(tail) if line.strip()), "")[:MOST_CHARACTERS]
    if waited_in_vain(allocation):
        return f"{reason}: {last}" if last else reason
    if end is None:
        return reason
    if end.oom:
        mib = _memory_mib(allocation)
        return f"{reason}; it may use {mib}Mi: give it more by compute.mem" if mib else reason
    if why := _told_by_runtime(tail):
        return why
    if found_its_port_taken(tail):
        return (
            f"{reason}: another program of its node has the port that it wants; let it listen on "
            "$PORT, or deploy again for another port if it does"
        )
    if last.startswith("{") or end.exit_code is None:
        return reason
    return f"{reason}: {last}" if last else reason


def _memory_mib(allocation: Mapping[str, Any]) -> int:
    tasks = (allocation.get("AllocatedResources") or {}).get("Tasks") or {}
    return int((tasks.get(MAIN_TASK) or {}).get("Memory", {}).get("MemoryMB", 0))


def _told_by_runtime(tail: Sequence[str]) -> str:
    """Return why the runtime of a predictor gave up, "" when it says nothing of it."""
    for line in reversed(tail):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("event") in LAST_OF_THE_RUNTIME:
            return str(event.get("why", ""))[: 2 * MOST_CHARACTERS]
    return ""
