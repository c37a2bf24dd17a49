"""The values that two components speak of: states, versions, replicas, servers.

All are frozen and travel as strict JSON (`serai.wire`). Times named `_at_s` are wall-clock seconds
since 1970 (for showing and storing); windows and deadlines are never computed from another
machine's clock.
"""

import hashlib
from enum import StrEnum
from typing import dataclass_transform

import msgspec

from serai.spec.types import Compute, Environment, Mount, Nodes, Pod, Predictor, Readiness

VERSION_DIGEST_LENGTH = 8


class ReplicaState(StrEnum):
    """Where a replica is in its life; the order is the usual one."""

    PENDING = "pending"
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


TERMINAL = frozenset({ReplicaState.STOPPED, ReplicaState.FAILED, ReplicaState.LOST})


class ApiState(StrEnum):
    """What an API is like for its callers; `unknown` while no scheduler leads."""

    LIVE = "live"
    UPDATING = "updating"
    IDLE = "idle"
    DEGRADED = "degraded"
    ERROR = "error"
    DELETING = "deleting"
    UNKNOWN = "unknown"


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Base of every value on the wire or in the store: immutable, unknown keys refused.

    No value is part of a cycle, so that the garbage collector need not look at them: a scheduler
    has some 100,000, and a look at all takes longer than a plan.
    """


class VersionContent(Value, omit_defaults=True):
    """All that a replica is made from, and nothing else: its digest names the version.

    `bundle` and `lock` are SHA-256 digests in hexadecimal ("" where there is none), `runtime` is
    the digest of the runtime's own code, `python` is "3.11". `nodes` is None where any node will
    do, and then left out of what is written, so that digests stay what they were without it.
    """

    predictor: Predictor | None
    pod: Pod | None
    bundle: str
    lock: str
    runtime: str
    python: str
    compute: Compute
    env: Environment
    concurrency_per_replica: int
    readiness: Readiness
    mounts: tuple[Mount, ...]
    nodes: Nodes | None = None

    @property
    def inner_port(self) -> int | None:
        """Return its container's port that is published as another, None without containers."""
        return self.pod.port if self.pod is not None and self.pod.containers else None


class Version(Value):
    """An immutable version of an API; `number` is for people, `digest` for machines."""

    api: str
    number: int
    digest: str
    content: VersionContent
    created_at_s: float

    @property
    def name(self) -> str:
        """Return the name that people see, such as `v7-3f9c21ab`."""
        return f"v{self.number}-{self.digest[:VERSION_DIGEST_LENGTH]}"


class Server(Value):
    """One process of a replica as the gateways address it: `id` is unique in the cluster.

    `capacity` is how many requests it takes at once.
    """

    id: str
    replica: str
    api: str
    version: str
    host: str
    port: int
    capacity: int


class Exit(Value):
    """How a process ended: exactly one of `exit_code` and `signal` is set, when known."""

    exit_code: int | None = None
    signal: str | None = None
    oom: bool = False

    def __str__(self) -> str:
        if self.oom:
            return "killed: out of memory"
        if self.signal is not None:
            return f"killed by {self.signal}"
        return f"exit code {self.exit_code}" if self.exit_code is not None else "unknown exit"


class Replica(Value):
    """One running (or lately ended) copy of a version as the engine sees it.

    `reason` says in plain words why it is in this state; `log_tail` holds its last lines once it
    has failed, and `telling` says that these are still being read; `restarts` counts its processes
    that were started again in place, and `ready_at_s` is since when it is ready, where the engine
    tells since the last of them. `stuck` says of one that waits for a place that it gets none
    unless its spec or the nodes change. `unheard` says why nobody knows whether it is ready, ""
    where that is known: until then its API stays as it is.
    """

    id: str
    api: str
    version: str
    node: str
    state: ReplicaState
    reason: str = ""
    created_at_s: float = 0.0
    ready_at_s: float | None = None
    ended_at_s: float | None = None
    exit: Exit | None = None
    restarts: int = 0
    log_tail: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    stuck: bool = False
    telling: bool = False
    unheard: str = ""

    @property
    def alive(self) -> bool:
        """Say whether it still holds, or will hold, resources."""
        return self.state not in TERMINAL


def server_id(replica: str, process: int) -> str:
    """Return the id of the server of a replica's process (counted from 0)."""
    return f"{replica}.{process}"


def replica_of_server(server: str) -> str:
    """Return the replica whose server this is, by its id."""
    return server.rpartition(".")[0]


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
