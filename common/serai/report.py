"""What an agent tells the scheduler once a second: bounded, versioned, all of it replaceable.

Counters only grow within one `run` (a gateway's life); the reader takes differences within a run
only, and by the gateway's own clock: what a new run tells first is a base to count from.
"""

from typing import Annotated

import msgspec

from serai.model import Value

REPORT_VERSION = 3
GATEWAY_ROLE = "gateway"
MAX_REPORT_BYTES = 4 * 2**20

LATENCY_BOUNDS_MS = (
    1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700,
    1000, 1500, 2000, 3000, 5000, 7000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000,
)  # fmt: skip
"""Upper bounds of the latency buckets in milliseconds; one more bucket holds what is slower."""

DEMAND_SLOT_S = 10
DEMAND_SLOTS = 90
"""How many slots of demand a gateway keeps, and a scheduler looks at: 15 minutes."""

Short = Annotated[str, msgspec.Meta(max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What is counted: it is added up, and told to Prometheus as a float."""


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
    `arrivals` (each once, also over a reload), `completions` (ended after they had reached a
    replica), `refused` (ended without: by the gateway itself, since no replica could be connected
    to, or by a client that left while it waited), `outcomes` (of both, by class 1xx..5xx, then
    client gone), `latency_buckets` (one more than LATENCY_BOUNDS_MS), `bytes_in`, `bytes_out`.
    Held requests and requests not yet given to a version are told under version "". A request that
    was seen held arrived then: it is among the arrivals of "", and ends under its version.
    """

    api: Short
    version: Short
    in_flight: Count = 0
    queued: Count = 0
    held: Count = 0
    arrivals: Count = 0
    completions: Count = 0
    outcomes: tuple[Count, Count, Count, Count, Count, Count] = (0, 0, 0, 0, 0, 0)
    refused: Count = 0
    latency_buckets: tuple[Count, ...] = ()
    latency_sum_ms: float = 0.0
    bytes_in: Count = 0
    bytes_out: Count = 0


class ServerTraffic(Value):
    """One server on one gateway: its state there and what is in flight on it now."""

    server: Short
    state: Short
    in_flight: Count


class DemandSlot(Value, array_like=True):
    """What an API asked of one gateway within DEMAND_SLOT_S seconds.

    `completions` are the requests that ended on a replica, and `busy_s` is the time that requests
    spent there, so that `busy_s` over `completions` is how long one takes. Those refused count as
    arrivals only. `peak` is the most that were there at a reading (one a second): running, queued
    and held.
    """

    arrivals: Count = 0
    completions: Count = 0
    busy_s: float = 0.0
    peak: Count = 0


class ApiDemand(Value):
    """One API's slots, the oldest first, without a gap from the slot number `first` on."""

    api: Short
    first: int
    slots: Annotated[tuple[DemandSlot, ...], msgspec.Meta(max_length=DEMAND_SLOTS)]


class Demand(Value):
    """What the APIs asked of a gateway of late, from the slot number `since` on (0: all it knows).

    A slot's number is its time (wall clock, since the epoch) divided by DEMAND_SLOT_S. APIs that
    nobody called are absent.
    """

    since: int = 0
    apis: Annotated[tuple[ApiDemand, ...], msgspec.Meta(max_length=5000)] = ()


class GatewayReading(Value):
    """One gateway at one moment.

    `run` names the life of its counters, and `read_at_s` says when they were read, by a clock that
    is never set and that means nothing beyond the run; `revisions` says which route revision has
    been carried out per API (wanted and real HAProxy state agreed at that revision).
    """

    run: Short
    ready: bool
    read_at_s: float
    haproxy_version: Short = ""
    revisions: dict[str, int] = msgspec.field(default_factory=dict)
    versions: Annotated[tuple[VersionTraffic, ...], msgspec.Meta(max_length=5000)] = ()
    servers: Annotated[tuple[ServerTraffic, ...], msgspec.Meta(max_length=20_000)] = ()
    demand: Demand = Demand()
    reloads: Count = 0
    repairs: Count = 0
    log_lines_lost: Count = 0
    slots_free: Count = 0
    problem: Short = ""


class NomadReading(Value):
    """What the Nomad of a node says of itself; `problem` tells why it does not, "" for nothing.

    `max_kill_timeout_s` is how long it lets a task end, whatever its job says.
    """

    version: Short = ""
    max_kill_timeout_s: float | None = None
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
    nomad: NomadReading | None = None


class ReportTaken(Value):
    """The answer to a report: from which slot on the demand is to be told next (0: all)."""

    demand_since: int = 0


def demand_slot(wall_s: float) -> int:
    """Return the number of the slot of a moment."""
    return int(wall_s // DEMAND_SLOT_S)
