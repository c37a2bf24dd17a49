"""What an agent tells the scheduler once a second: bounded, versioned, all of it replaceable.

Counters only grow within one `gateway_run` (a gateway's life); a new run starts at zero and the
reader takes differences per run, so that a restart is never a negative rate.
"""

from typing import Annotated

import msgspec

from serai.model import Value

REPORT_VERSION = 1
MAX_REPORT_BYTES = 4 * 2**20

LATENCY_BOUNDS_MS = (
    1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700,
    1000, 1500, 2000, 3000, 5000, 7000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000,
)  # fmt: skip
"""Upper bounds of the latency buckets in milliseconds; one more bucket holds what is slower."""

Short = Annotated[str, msgspec.Meta(max_length=256)]


class GpuReading(Value):
    """One GPU at one moment; None where the driver cannot say (unknown is not zero)."""

    uuid: Short
    index: int
    name: Short
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilization_percent: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    problem: Short = ""


class Gpus(Value):
    """The GPUs of a node, or why there is nothing to say; `age_s` is how old the readings are."""

    readings: Annotated[tuple[GpuReading, ...], msgspec.Meta(max_length=64)] = ()
    driver: Short = ""
    problem: Short = ""
    age_s: float | None = None


class ReplicaUsage(Value):
    """What one replica's process tree uses; cpu in cores (1.5 = one and a half)."""

    replica: Short
    cpu_cores: float
    memory_bytes: int
    processes: int


class VersionTraffic(Value):
    """One API version on one gateway.

    `in_flight`, `queued` and `held` are now; the rest are counters since the run began:
    `arrivals` (requests tracked), `outcomes` (responses by class 1xx..5xx, then client gone),
    `refused` (by the gateway itself: queue full, queue timeout, body too large, held too long),
    `latency_buckets` (one more than LATENCY_BOUNDS_MS), `bytes_in`, `bytes_out`.
    Held requests and requests not yet given to a version are told under version "".
    """

    api: Short
    version: Short
    in_flight: int = 0
    queued: int = 0
    held: int = 0
    arrivals: int = 0
    completions: int = 0
    outcomes: tuple[int, int, int, int, int, int] = (0, 0, 0, 0, 0, 0)
    refused: int = 0
    latency_buckets: tuple[int, ...] = ()
    latency_sum_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


class ServerTraffic(Value):
    """One server on one gateway: its state there and what is in flight on it now."""

    server: Short
    state: Short
    in_flight: int


class GatewayReading(Value):
    """One gateway at one moment.

    `run` names the life of its counters; `revisions` says which route revision has been carried
    out per API (wanted and real HAProxy state agreed at that revision).
    """

    run: Short
    ready: bool
    haproxy_version: Short = ""
    revisions: dict[str, int] = msgspec.field(default_factory=dict)
    versions: Annotated[tuple[VersionTraffic, ...], msgspec.Meta(max_length=5000)] = ()
    servers: Annotated[tuple[ServerTraffic, ...], msgspec.Meta(max_length=20_000)] = ()
    reloads: int = 0
    repairs: int = 0
    log_lines_lost: int = 0
    slots_free: int = 0
    problem: Short = ""


class NodeReport(Value):
    """One node at one moment. `sequence` rises by one per report; `started_at_s` is the agent's."""

    report_version: int
    node: Short
    sequence: int
    started_at_s: float
    sent_at_s: float
    serai_version: Short
    roles: tuple[Short, ...]
    cpu_count: int
    cpu_percent: float | None
    load: tuple[float, float, float] | None
    memory_total_bytes: int
    memory_available_bytes: int
    disk_total_bytes: int
    disk_free_bytes: int
    gpus: Gpus
    replicas: Annotated[tuple[ReplicaUsage, ...], msgspec.Meta(max_length=2000)] = ()
    gateway: GatewayReading | None = None
