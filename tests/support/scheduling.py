"""Records, replicas and requests for the scheduler's tests, with only what matters spelt out."""

from serai.model import Replica, ReplicaState, Server, Version, server_id
from serai.operator import DeployItem, DeployRequest
from serai.report import REPORT_VERSION, Gpus, NodeReport
from serai.spec.scaling import Autoscaling
from serai.spec.types import ApiSpec, Pod
from serai_scheduler.deploy import Accepted, Surroundings, accept
from serai_scheduler.record import ApiRecord, StoredApi
from serai_scheduler.service import Cluster

NOW_S = 1_000_000.0
CLUSTER = Cluster(
    serai_version="0.1.0",
    gateway_url="http://127.0.0.1:8080",
    python="3.11",
    platform="x86_64-manylinux_2_36",
    runtime_digest="r" * 64,
    runtime_requirements=("aiohttp",),
)


def spec(name: str = "iris", low: int = 1, high: int = 10, endpoint: str = "") -> ApiSpec:
    """Return a small spec with these bounds."""
    return ApiSpec(
        name=name,
        endpoint=endpoint or f"/{name}",
        pod=Pod(command=("serve",)),
        autoscaling=Autoscaling(min_replicas=low, max_replicas=high),
    )


def request(*specs: ApiSpec, bundle: str = "a", force: bool = False) -> DeployRequest:
    """Return a deploy of these specs, all with the same bundle."""
    return DeployRequest(
        apis=tuple(DeployItem(spec=one, bundle=bundle) for one in specs), force=force
    )


def around(now_s: float = NOW_S) -> Surroundings:
    return Surroundings(now_s=now_s, runtime_digest="", python="3.11")


def deployed(
    before: StoredApi | None, one: ApiSpec, bundle: str = "a", force: bool = False
) -> tuple[Accepted, StoredApi]:
    """Deploy one spec over what is there; return the plan and what is stored then."""
    apis = {one.name: before} if before else {}
    (accepted,) = accept(request(one, bundle=bundle, force=force), apis, around())
    return accepted, stored_after(before, accepted)


def stored_after(before: StoredApi | None, accepted: Accepted) -> StoredApi:
    """Return what the store holds after an accepted deploy."""
    versions = dict(before.versions) if before else {}
    if accepted.version is not None:
        versions[accepted.version.name] = accepted.version
    record = accepted.record or (before.record if before else None)
    assert record is not None
    return with_record(record, versions, before)


def with_record(
    record: ApiRecord, versions: dict[str, Version], before: StoredApi | None = None
) -> StoredApi:
    revision = before.store_revision + 1 if before else 1
    return StoredApi(record=record, store_revision=revision, versions=versions)


def replica(
    version: str,
    number: int = 1,
    state: ReplicaState = ReplicaState.READY,
    api: str = "iris",
    reason: str = "",
    ended_at_s: float | None = None,
    created_at_s: float = NOW_S,
    node: str = "node",
) -> Replica:
    """Return a replica; a ready one has one server."""
    name = f"{api}.{version}.{number}"
    server = Server(
        id=server_id(name, 0),
        replica=name,
        api=api,
        version=version,
        host="127.0.0.1",
        port=1,
        capacity=1,
    )
    return Replica(
        id=name,
        api=api,
        version=version,
        node=node,
        state=state,
        reason=reason,
        created_at_s=created_at_s,
        ended_at_s=ended_at_s,
        servers=(server,) if state is ReplicaState.READY else (),
    )


def report(sequence: int, version: int = REPORT_VERSION) -> NodeReport:
    """Return the report of a node without GPUs."""
    return NodeReport(
        report_version=version,
        node="one",
        sequence=sequence,
        started_at_s=1.0,
        sent_at_s=2.0,
        serai_version="0.1.0",
        roles=("replicas",),
        cpu_count=2,
        cpu_percent=None,
        load=None,
        memory_total_bytes=1,
        memory_available_bytes=1,
        disk_total_bytes=1,
        disk_free_bytes=1,
        gpus=Gpus(problem="none"),
    )
