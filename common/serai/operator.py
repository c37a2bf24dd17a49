"""The operator HTTP API (`/v1/…`) as types: what the CLI and other clients send and get.

The OpenAPI description is generated from these types. Errors are problem+json (`Problem`) with a
stable `code`.
"""

from enum import StrEnum
from typing import Annotated, Any

import msgspec

from serai.model import ApiState, Replica, Value, Version
from serai.report import NodeReport
from serai.spec.types import MOST_APIS, ApiSpec

MAX_REQUEST_BYTES = 8 * 2**20
ALL_READY = "all replicas are ready"
SCALED_TO_ZERO = "scaled to zero"
"""The reasons of APIs that are well; news of one that is live follows after a semicolon."""


class FieldProblem(Value):
    """One fault of a request, with its place in the file where that is known."""

    path: str
    message: str
    file: str = ""
    line: int = 0
    column: int = 0


class Problem(Value):
    """An error: `code` is stable; `detail` says what happened, why, and what to do next."""

    status: int
    code: str
    title: str
    detail: str
    type: str = "about:blank"
    problems: tuple[FieldProblem, ...] = ()


class Info(Value):
    """What a client must know before it deploys.

    `python` ("3.11") and `platform` (as uv names it) are what requirements are resolved for,
    together with `runtime_requirements`; `gateway_url` is where callers send requests.
    """

    serai_version: str
    epoch: int
    started_at_s: float
    gateway_url: str
    python: str
    platform: str
    runtime_digest: str
    runtime_requirements: tuple[str, ...]


class DeployItem(Value):
    """One API to deploy: its spec, the digest of its bundle and of its lock ("" for none)."""

    spec: ApiSpec
    bundle: str = ""
    lock: str = ""


class DeployRequest(Value):
    """Several APIs, accepted all together or not at all. `force` deploys over a running update."""

    apis: Annotated[tuple[DeployItem, ...], msgspec.Meta(min_length=1, max_length=MOST_APIS)]
    force: bool = False


class Change(Value):
    """One difference between what is deployed and what is asked: `restarts` says its price."""

    path: str
    before: str
    after: str
    restarts: bool


class ApiPlan(Value):
    """What a deploy does to one API.

    `action` is `create`, `new version`, `settings` or `up to date`; `version` is the name that the
    version has or will have; `explanation` tells in a sentence what will happen to replicas;
    `notes` tell what is accepted and does nothing here.
    """

    api: str
    action: str
    version: str
    explanation: str
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


class PlanAnswer(Value):
    """What a deploy would do, or has begun to do."""

    apis: tuple[ApiPlan, ...]


class ScaleRequest(Value):
    """How many replicas to keep, within the API's bounds; null lets its policy decide again."""

    replicas: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None


class Traffic(Value):
    """What goes through an API (or one version of it), over all gateways.

    Rates, the mean and quantiles of latencies are of the last 60 s (None where nothing is known);
    `refused` and the responses by class are totals since the gateways' counters began. What was
    refused reached no replica: 413, 429, 503 of a gateway, and clients that left while they waited.
    It is among the requests and latencies.
    """

    requests_per_s: float | None = None
    refused_per_s: float | None = None
    in_flight: int = 0
    queued: int = 0
    held: int = 0
    responses_2xx: int = 0
    responses_4xx: int = 0
    responses_5xx: int = 0
    refused: int = 0
    mean_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


class ApiStatus(Value):
    """One API as `serai get` lists it.

    `version` serves ("" before the first is ready), `candidate` is on its way ("" when none);
    `reason` says in words why the state is what it is; `last_error` is why the last update failed
    (of version `failed_version`). `waits_for` says what keeps callers from what is in force though
    its replicas are ready: gateways that have not taken the route yet; "" for nothing. `demand` is
    how many requests would run at once if there were always room, None where that is not known;
    `pinned` says that `serai scale` has set the count in place of the policy.
    """

    name: str
    kind: str
    state: ApiState
    reason: str
    endpoint: str
    url: str
    version: str
    candidate: str
    ready: int
    wanted: int
    traffic: Traffic
    updated_at_s: float
    last_error: str = ""
    failed_version: str = ""
    waits_for: str = ""
    demand: float | None = None
    pinned: bool = False


class ApiList(Value):
    """All APIs, sorted by name."""

    apis: tuple[ApiStatus, ...]


class StartProgress(Value):
    """How far a replica that starts has come, in seconds.

    `took_s` tells how long each phase took, in order; the last is under way. The phases are placed,
    environment, process, loaded and ready, each named by what ends it. `left_s` is how long it is
    likely to take yet, None once it takes far longer than usual. `cache` is warm on a node where
    its version has been ready before.
    """

    took_s: dict[str, float]
    left_s: float | None
    cache: str = "cold"


class ReplicaStatus(Value):
    """One replica with what it uses (None where unknown); `start` is None unless it starts."""

    replica: Replica
    cpu_cores: float | None = None
    memory_bytes: int | None = None
    in_flight: int | None = None
    start: StartProgress | None = None


class VersionStatus(Value):
    """One version that the store knows, newest first; `role` is serving, candidate, old."""

    version: Version
    role: str
    ready: int
    traffic: Traffic


class ApiDescription(Value):
    """Everything about one API.

    `peak_15_min` is how many requests there were at once at most in the last 15 minutes, running,
    queued and held, counted once a second, over all gateways; None while no gateway has told.
    """

    status: ApiStatus
    spec: ApiSpec
    replicas: tuple[ReplicaStatus, ...]
    versions: tuple[VersionStatus, ...]
    peak_15_min: int | None = None


class RenderedJob(Value):
    """A version as a Nomad job: as Nomad's API takes it, and as a jobspec for `nomad job run`.

    `hcl` is "" where the job has something that is not written so; `why_no_hcl` says what.
    """

    json: dict[str, Any]
    hcl: str
    why_no_hcl: str = ""


class NodeWish(StrEnum):
    """What an operator wants of a node."""

    CORDON = "cordon"
    DRAIN = "drain"
    OPEN = "open"


class NodeRequest(Value):
    """What a node is to do. `limit_s`: after that, a drain no longer waits for replacements."""

    wish: NodeWish
    limit_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] | None = None


class NodeStatus(Value):
    """One node: its last report and how old that is, None where there was none.

    `state` is `up` or `silent`; `takes` says whether it takes new replicas, with the reason where
    it does not. `replicas` is how many the engine has there. `waiting` tells what a drain still
    waits for, a line each, Nomad's own included. `clock_skew_s` is by how much its clock was ahead
    of the scheduler's when it reported, `engine_version` that of its Nomad as the cluster knows it,
    "" without one.
    """

    node: str
    state: str
    age_s: float | None
    report: NodeReport | None
    takes: bool = True
    reason: str = ""
    wish: NodeWish | None = None
    waiting: tuple[str, ...] = ()
    clock_skew_s: float | None = None
    engine_version: str = ""
    replicas: int = 0


class NodeList(Value):
    """All nodes that have reported since the scheduler started, sorted by name."""

    nodes: tuple[NodeStatus, ...]


class Verdict(StrEnum):
    """How a thing that was looked at is; only `fail` keeps something from working."""

    OK = "ok"
    UNTESTED = "untested"
    WARN = "warn"
    FAIL = "fail"


class Finding(Value):
    """One thing that was looked at: what it is, and in words how it is and what to do next."""

    verdict: Verdict
    what: str
    told: str


class Examination(Value):
    """What a scheduler finds of its cluster; nothing for one machine's."""

    findings: tuple[Finding, ...]


class Digests(Value):
    """Digests of blobs: asked about, or found missing."""

    digests: Annotated[tuple[str, ...], msgspec.Meta(max_length=100_000)]


class Readiness(Value):
    """What `/readyz` of a cluster's scheduler says: whether store and engine answer it."""

    store: bool
    engine: bool
    leads: bool


class Done(Value):
    """An order was accepted; `message` says what happens now."""

    message: str
