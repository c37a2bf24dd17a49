"""The port to whatever runs replicas: local processes here, Nomad in a cluster."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from serai.model import Replica, Value, Version

USUAL_DRAIN_S = 600.0
"""How long an answer may take where nothing else is said."""


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


class Capacity(Value):
    """What a node has for replicas, beyond what others than replicas take.

    None where an engine sets nothing aside of a kind: as many replicas may run as anybody likes.
    `unset_memory_mib` is what it sets aside for a replica whose spec sets no memory.
    """

    cpu_millicores: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    unset_memory_mib: int = 0


class EngineNode(Value):
    """A node as the engine knows it: whether it takes new replicas, and why it does not.

    `closed` says that somebody has closed it on purpose, by Serai or by the engine's own means;
    `drains` that the engine moves its replicas away by itself, and ends those that are left at
    `drain_until_s` (wall clock; None for never, or unknown). `version` is that of the engine there.
    `node_class` is what operators call nodes of its kind, "" for nothing; `pool` is the one that it
    is in, "" where there are none. `capacity` is None while it is not known.
    """

    name: str
    takes: bool
    closed: bool = False
    reason: str = ""
    drains: bool = False
    drain_until_s: float | None = None
    version: str = ""
    node_class: str = ""
    pool: str = ""
    capacity: Capacity | None = None


class Engine(Protocol):
    """Runs replicas. Every order carries the leader's epoch; a lower one than before is Refused."""

    async def observe(self) -> Sequence[Replica]:
        """Return every replica that lives, and the lately ended ones (bounded per API)."""
        ...

    async def start(
        self,
        replicas: Sequence[str],
        version: Version,
        epoch: int,
        drain_s: float = USUAL_DRAIN_S,
    ) -> None:
        """Start replicas of a version under these ids, each `API.VERSION.NUMBER`, numbers from 1.

        Their answers may take `drain_s`, which is what they get when something else than `stop`
        ends them, such as an operator who empties their node.
        An id that `observe` shows already is left as it is. Raises Refused when the version cannot
        be run, Unavailable when nothing is known to have been started: look again, then decide.
        """
        ...

    async def stop(self, replicas: Sequence[str], grace_s: float, epoch: int) -> None:
        """Ask replicas to end (SIGTERM), end them after `grace_s`; an unknown id is no error.

        Returns at once; `observe` shows them `draining`, then `stopped`. An engine may have fixed
        how long it waits when a replica was started, and then heeds no `grace_s`.
        """
        ...

    async def grant(self, version: Version, drain_s: float, epoch: int) -> None:
        """Let answers of a version take `drain_s`: of its replicas that run and of later ones.

        None of them ends for it. An engine may have fixed the time of those that run when they
        were started; they get it then when their process is started anew. None is no error.
        """
        ...

    async def nodes(self) -> Sequence[EngineNode]:
        """Return every node that replicas may run on."""
        ...

    async def take(self, node: str, takes: bool, epoch: int) -> None:
        """Let a node take new replicas, or none any more; what runs on it goes on.

        Raises Refused for a node that is not there, or that cannot be closed.
        """
        ...

    async def forget(self, api: str, epoch: int) -> None:
        """Remove logs and records of the ended replicas of a deleted API."""
        ...

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """Yield lines in time order; with `follow` it goes on and includes replicas to come."""
        ...
