"""The port to the gateways that are alive: those among whom what replicas take is divided."""

from typing import Protocol

from serai.clock import Clock
from serai.model import Value


class Alive(Value):
    """The gateways that take requests, by the names of their nodes, sorted.

    `revision` rises with every change; at 0 nothing is known yet.
    """

    revision: int
    names: tuple[str, ...]


class Gateways(Protocol):
    """Where gateways are listed: one on one machine, Consul's health in a cluster."""

    async def watch(self, after: int, wait_s: float) -> Alive:
        """Return once the list changed after revision `after`, or after `wait_s`."""
        ...


class OneGateway:
    """The list of a machine that has the only gateway; it never changes."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._alive = Alive(revision=1, names=(name,))
        self._clock = clock

    async def watch(self, after: int, wait_s: float) -> Alive:
        if after >= self._alive.revision:
            await self._clock.sleep(wait_s)
        return self._alive
