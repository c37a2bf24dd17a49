"""The spec of an API as typed values: what `serai.yaml` holds once it has been read.

One set of types serves the file, the wire and the JSON Schema. Quantities are the types of
`serai.units`; `serai.spec.codec` turns them into their written form and back.
"""

from typing import Annotated, Any, dataclass_transform

import msgspec

from serai.units import Cpu, Duration, Size

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Environment = dict[str, str]

QUEUE_TIMEOUTS_S = (1, 5, 30, 120)
RETRY_MODES = ("never", "connection", "idempotent")


@dataclass_transform(frozen_default=True, kw_only_default=True)
class SpecPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every mapping in a spec: immutable, unknown keys refused."""


class Batch(SpecPart):
    """Micro-batching: `predict` gets a list of payloads."""

    max_size: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 16
    max_wait_ms: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 5.0


class Predictor(SpecPart):
    """A Python class that serves the API."""

    path: str
    config: dict[str, Any] = {}
    requirements: str | None = None
    python: str | None = None
    processes: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    batch: Batch | None = None


class Container(SpecPart):
    """One container of a pod; `image` is what dockerd can pull or already has."""

    image: str
    name: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Environment = {}


class Pod(SpecPart):
    """Any HTTP server: containers, or without them a program that listens on `$PORT`."""

    port: Port = 8080
    containers: tuple[Container, ...] = ()
    command: tuple[str, ...] = ()


class Compute(SpecPart):
    """What one replica needs."""

    cpu: Cpu = Cpu(200)
    mem: Size | None = None
    shm: Size | None = None
    gpu: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0


class Concurrency(SpecPart):
    """How many requests at once, and what happens to the rest."""

    per_replica: Annotated[int, msgspec.Meta(ge=1, le=30_000)] = 1
    queue: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 100
    queue_timeout: Duration = Duration(30)
    body_max: Size = Size(32 * 2**20)


class Timeouts(SpecPart):
    """Limits on one request; the runtime enforces `total`, the gateway the others."""

    first_byte: Duration = Duration(60)
    idle: Duration = Duration(60)
    total: Duration = Duration(600)


class Mount(SpecPart):
    """A folder of the node, shown to the replica; only below the operator's allow-list."""

    host: str
    path: str
    read_only: bool = True


class Autoscaling(SpecPart):
    """Bounds on the number of replicas."""

    min_replicas: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 1
    max_replicas: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10
    init_replicas: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None


class Readiness(SpecPart):
    """When a replica may take traffic: `path` answers below 400."""

    path: str = "/readyz"
    period: Duration = Duration(1)
    failures: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3


class ApiSpec(SpecPart):
    """One API as its owner describes it. Exactly one of `predictor` and `pod` is set."""

    name: str
    kind: str = "RealtimeAPI"
    endpoint: str = ""
    predictor: Predictor | None = None
    pod: Pod | None = None
    compute: Compute = Compute()
    concurrency: Concurrency = Concurrency()
    timeouts: Timeouts = Timeouts()
    retry: str = "connection"
    mounts: tuple[Mount, ...] = ()
    autoscaling: Autoscaling = Autoscaling()
    readiness: Readiness = Readiness()
    env: Environment = {}
