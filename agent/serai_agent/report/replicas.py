"""What the replicas that Nomad runs on this node use, by the variable that their tasks have.

The processes are not this agent's children, and each driver keeps its control groups elsewhere;
but all of them, containers too, are processes of this machine with their job's environment. Of
other users' processes only root sees that: an agent that may not tells nothing, which is unknown.
"""

import asyncio
import contextlib
from collections.abc import Mapping

from serai.clock import Clock
from serai.report import ReplicaUsage
from serai_agent.local.usage import Kin, UsageMeter, kin_of_all, members

REPLICA, ALLOCATION = b"SERAI_REPLICA=", b"NOMAD_ALLOC_ID="
SETTLED_S = 5.0
"""A new process has its parent's environment until it becomes another program: it is looked at
again until it is so old."""
MOST_BYTES = 2**20
STALE_S = 5.0


class ReplicaUse:
    """Measures again and again; `measure` is one turn."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._meter = UsageMeter()
        self._known: dict[tuple[int, Kin], tuple[float, str]] = {}
        self._latest: tuple[ReplicaUsage, ...] = ()
        self._at_s = 0.0

    async def current(self) -> tuple[ReplicaUsage, ...]:
        """Return what was measured last, nothing once that is long ago."""
        return self._latest if self._clock.now() - self._at_s < STALE_S else ()

    async def measure(self) -> None:
        """Look at all processes once."""
        now_s = self._clock.now()
        self._latest = await asyncio.to_thread(self._measured, now_s)
        self._at_s = now_s

    def _measured(self, now_s: float) -> tuple[ReplicaUsage, ...]:
        kin = kin_of_all()
        marked = self._marked(kin, now_s)
        parents = {pid: one.parent for pid, one in kin.items()}
        return self._meter.measure_these(members(marked, parents), now_s)

    def _marked(self, kin: Mapping[int, Kin], now_s: float) -> dict[int, str]:
        known: dict[tuple[int, Kin], tuple[float, str]] = {}
        for found in kin.items():
            first_s, replica = self._known.get(found, (now_s, ""))
            if not replica and now_s - first_s <= SETTLED_S:
                replica = replica_in(_environment(found[0]))
            known[found] = first_s, replica
        self._known = known
        return {pid: replica for (pid, _), (_, replica) in known.items() if replica}


def replica_in(environment: bytes) -> str:
    """Return the replica of Nomad's that an environment is of, "" for none. Pure."""
    variables = environment.split(b"\0")
    if not any(one.startswith(ALLOCATION) for one in variables):
        return ""
    named = next((one for one in variables if one.startswith(REPLICA)), REPLICA)
    return named.removeprefix(REPLICA).decode(errors="replace")


def _environment(pid: int) -> bytes:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return file.read(MOST_BYTES)
    return b""
