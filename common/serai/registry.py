"""The port to what is ready: the servers that may take traffic."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from serai.model import Server, Value


class Listing(Value):
    """The ready servers at one moment; `revision` rises with every change.

    It is 0 until the servers are known for the first time: none is then not the same as none ready.
    `unheard` says by API why nobody knows which of its servers are ready: of those here are none.
    """

    revision: int
    servers: tuple[Server, ...]
    unheard: Mapping[str, str] = msgspec.field(default_factory=dict)


class Registry(Protocol):
    """Where ready replicas are listed: memory on one machine, Consul's health in a cluster."""

    async def watch(self, after: int, wait_s: float) -> Listing:
        """Return once the servers changed after revision `after`, or after `wait_s`."""
        ...
