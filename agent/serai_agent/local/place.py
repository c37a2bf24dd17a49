"""The engine's port to the node's cache: what a version needs before it can be started."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serai.model import Version

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where the parts of a replica lie: its environment and bundle, if its version has them."""

    environment: Path | None
    bundle: Path | None


class Cache(Protocol):
    """Brings environments and bundles to this node, once for all replicas that share them."""

    async def place(self, version: Version, tell: Tell) -> Place:
        """Return where the parts of a version lie; `tell` hears what is being done.

        Raises ConfigError or Refused when it can never work, Unavailable when it may later.
        """
        ...

    async def prune(self, in_use: Sequence[Version]) -> None:
        """Remove what has not been used for long, but nothing that these versions need."""
        ...

    async def close(self) -> None:
        """End what is being built or fetched."""
        ...
