"""What the store keeps of an API, and where: the leader's whole memory of it.

A leader acts from these alone, so whatever must survive its death is in here: the counts, the
versions under way, and since when each replica drains. Times are wall-clock seconds.
"""

from serai.model import Value, Version
from serai.operator import NodeWish
from serai.routes import ROUTES
from serai.spec.scaling import FIXED
from serai.spec.types import ApiSpec
from serai_scheduler.retry_after import FIRST_S

APIS = "apis/"
VERSIONS = "versions/"
NODES = "nodes/"
LEARNED = "learned/"


def api_key(api: str) -> str:
    return APIS + api


def version_key(api: str, version: str) -> str:
    return f"{VERSIONS}{api}/{version}"


def route_key(api: str) -> str:
    return ROUTES + api


def learned_key(api: str) -> str:
    return LEARNED + api


def node_key(node: str) -> str:
    return NODES + node


class NodeIntent(Value):
    """What an operator wants of a node: that it is closed to new replicas, empty, or open again.

    `limit_s` is how long replicas of a drain may wait for others to take over, None for as long as
    it takes.
    """

    node: str
    wish: NodeWish
    since_s: float
    limit_s: float | None = None


class Draining(Value):
    """A replica that gets no new requests since route revision `revision`.

    `total_s` is how long a request may take that came before, where settings since then say less.
    """

    replica: str
    since_s: float
    revision: int
    total_s: float = 0.0


class Candidate(Value):
    """A version on its way to serve, with the settings that come into force with it."""

    version: str
    spec: ApiSpec
    since_s: float


class Retiring(Value):
    """A version that no longer serves since route revision `revision`; `total_s` as above."""

    version: str
    since_s: float
    revision: int
    total_s: float = 0.0


class ApiRecord(Value):
    """One API. `spec` holds the settings in force; `stable` is "" until a version has served.

    `replicas` is the wanted count, `pinned` the one that a user has set in place of the policy's,
    None where the policy decides. `retry_after_s` is what refused clients are told. `next_number`
    is the number of the next version, `revision` the revision of its route, and `in_force_since`
    the one that brought callers the stable version under these settings. `last_error` is why
    version `failed_version` did not come to serve, with the end of its log; a later success clears
    them.
    """

    name: str
    spec: ApiSpec
    replicas: int
    created_at_s: float
    updated_at_s: float
    stable: str = ""
    candidate: Candidate | None = None
    retiring: tuple[Retiring, ...] = ()
    draining: tuple[Draining, ...] = ()
    next_number: int = 1
    revision: int = 0
    in_force_since: int = 0
    deleting_since_s: float | None = None
    last_error: str = ""
    failed_version: str = ""
    failed_log: tuple[str, ...] = ()
    pinned: int | None = None
    retry_after_s: int = FIRST_S

    @property
    def versions(self) -> tuple[str, ...]:
        """Return the names of all versions that may have replicas."""
        names = [self.stable] if self.stable else []
        names += [self.candidate.version] if self.candidate else []
        return tuple(names + [old.version for old in self.retiring])


class StoredApi(Value):
    """A record with its versions by name and the store's revision of the record."""

    record: ApiRecord
    store_revision: int
    versions: dict[str, Version]


def wanted_replicas(record: ApiRecord, spec: ApiSpec) -> int:
    """Return how many replicas a version under these settings shall have.

    The count is within the bounds in force, which a schedule may have widened; other settings have
    bounds of their own.
    """
    if spec is record.spec or spec == record.spec:
        return record.replicas
    return min(max(record.replicas, spec.autoscaling.min_replicas), spec.autoscaling.max_replicas)


def begun_replicas(record: ApiRecord, spec: ApiSpec) -> int:
    """Return how many replicas a version shall have from when it begins to serve.

    What nobody has set falls asleep once it is idle for long, not right after its trial.
    """
    set_by_users = record.pinned is not None or spec.autoscaling.policy == FIXED
    if record.stable or set_by_users:
        return wanted_replicas(record, spec)
    return trial_replicas(record, spec)


def trial_replicas(record: ApiRecord, spec: ApiSpec) -> int:
    """Return how many replicas of a candidate have to be ready before it serves.

    One at least, also where none shall run: a version that never ran is not known to work.
    """
    return max(1, wanted_replicas(record, spec))
