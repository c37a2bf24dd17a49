"""The port to whatever runs replicas: local processes here, Nomad in a cluster."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from serai.model import Replica, Value, Version


class LogLine(Value):
    """One line that a replica wrote; `stream` is `out` or `err`."""

    at_s: float
    replica: str
    version: str
    stream: str
    text: str


class LogQuery(Value):
    """Which lines: of these replicas (all of the API when empty), since then, the last `tail`."""

    api: str
    replicas: tuple[str, ...] = ()
    version: str = ""
    since_s: float | None = None
    tail: int | None = None
    grep: str = ""
    follow: bool = False


class Engine(Protocol):
    """Runs replicas. Every order carries the leader's epoch; a lower one than before is Refused."""

    async def observe(self) -> Sequence[Replica]:
        """Return every replica that lives, and the lately ended ones (bounded per API)."""
        ...

    async def start(self, replica: str, version: Version, epoch: int) -> None:
        """Start a replica under this id; an id that is known already is left as it is."""
        ...

    async def stop(self, replica: str, grace_s: float, epoch: int) -> None:
        """Ask a replica to end (SIGTERM), end it after `grace_s`; an unknown id is no error.

        Returns at once; `observe` shows it `draining`, then `stopped`.
        """
        ...

    async def forget(self, api: str, epoch: int) -> None:
        """Remove logs and records of the ended replicas of a deleted API."""
        ...

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """Yield lines in time order; with `follow` it goes on and includes replicas to come."""
        ...
