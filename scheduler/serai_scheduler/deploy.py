"""What a deploy does: from the request and what is there to plans and new records. Pure.

Several APIs are accepted together or refused together, with every reason at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from serai import wire
from serai.errors import Refused
from serai.model import Version, VersionContent
from serai.operator import ApiPlan, Change, DeployItem, DeployRequest, FieldProblem
from serai.spec.types import ApiSpec, Nodes
from serai_scheduler.changes import spec_changes
from serai_scheduler.record import (
    ApiRecord,
    Candidate,
    Retiring,
    StoredApi,
    trial_replicas,
    wanted_replicas,
)
from serai_scheduler.route import endpoints


@dataclass(frozen=True)
class Surroundings:
    """What a deploy depends on besides the request: `now_s` is wall-clock time.

    `store_revision` is that of the store when the APIs were read.
    """

    now_s: float
    runtime_digest: str
    python: str
    store_revision: int = 0


REVISIONS_PER_COMMIT = 5
"""A commit raises an API's route revision by less than this. An API that is deleted and made again
begins at this many times the store's revision, so that its revisions pass all that gateways have
reported for the one before."""


@dataclass(frozen=True)
class Accepted:
    """One API's part of a deploy: its plan, and what to write (`record` None: nothing)."""

    plan: ApiPlan
    before: StoredApi | None
    record: ApiRecord | None = None
    version: Version | None = None


class DeployRefused(Refused):
    """A deploy was refused; `problems` holds every reason."""

    def __init__(self, problems: tuple[FieldProblem, ...], code: str) -> None:
        super().__init__("; ".join(problem.message for problem in problems), code)
        self.problems = problems


def accept(
    request: DeployRequest, apis: Mapping[str, StoredApi], around: Surroundings
) -> tuple[Accepted, ...]:
    """Return what the deploy does to each API; raise DeployRefused with every problem at once."""
    problems = [*_repeated(request), *_taken_endpoints(request, apis)]
    codes = ["conflict"] if problems else []
    accepted = []
    for item in request.apis:
        try:
            accepted.append(_accept_one(item, apis.get(item.spec.name), around, request.force))
        except Refused as refused:
            problems.append(FieldProblem(path=item.spec.name, message=str(refused)))
            codes.append(refused.code)
    if not problems:
        problems += _endpoints_still_served(accepted)
        codes.append("conflict")
    if problems:
        raise DeployRefused(tuple(problems), codes[0])
    return tuple(accepted)


def _repeated(request: DeployRequest) -> Iterable[FieldProblem]:
    names = [item.spec.name for item in request.apis]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield FieldProblem(path=name, message=f"{name} stands in this deploy more than once")


def _taken_endpoints(
    request: DeployRequest, apis: Mapping[str, StoredApi]
) -> Iterable[FieldProblem]:
    changed = {item.spec.name for item in request.apis}
    taken = endpoints(tuple(api for name, api in apis.items() if name not in changed))
    for item in request.apis:
        owner = taken.setdefault(item.spec.endpoint, item.spec.name)
        if owner != item.spec.name:
            message = f"endpoint {item.spec.endpoint} belongs to {owner}; choose another"
            yield FieldProblem(path=f"{item.spec.name}: endpoint", message=message)


def _endpoints_still_served(accepted: Sequence[Accepted]) -> Iterable[FieldProblem]:
    """Yield the endpoints that another API of the deploy gives up only when its version serves."""
    records = [one.record for one in accepted if one.record is not None]
    held = {r.spec.endpoint: r.name for r in records if r.stable and r.candidate is not None}
    for record in records:
        wanted = record.candidate.spec.endpoint if record.candidate else record.spec.endpoint
        owner = held.get(wanted, record.name)
        if owner != record.name:
            message = (
                f"endpoint {wanted} is served by {owner} until its new version is ready; "
                f"deploy {owner} first, then {record.name}"
            )
            yield FieldProblem(path=f"{record.name}: endpoint", message=message)


def _accept_one(
    item: DeployItem, before: StoredApi | None, around: Surroundings, force: bool
) -> Accepted:
    content = content_of(item, around)
    digest = wire.digest(content)
    if before is None:
        return _create(item.spec, content, digest, around)
    record = before.record
    _check_may_change(record, item.spec)
    latest = before.versions.get(record.candidate.version if record.candidate else record.stable)
    if latest is not None and latest.digest == digest:
        return _same_version(before, latest, item.spec, around)
    if record.candidate is not None and not force:
        raise Refused(
            f"{record.name} is being updated to {record.candidate.version}; "
            "wait for its end, or deploy with --force to replace that update",
            "updating",
        )
    old = latest.content if latest is not None else None
    old_spec = record.candidate.spec if record.candidate else record.spec
    changes = spec_changes(old_spec, item.spec, old, content)
    return new_version(before, item.spec, content, around, changes)


def _check_may_change(record: ApiRecord, spec: ApiSpec) -> None:
    if record.deleting_since_s is not None:
        raise Refused(f"{record.name} is being deleted; deploy again once it is gone", "deleting")
    if record.spec.kind != spec.kind:
        raise Refused(
            f"{record.name} exists as {record.spec.kind}; delete it first to make it {spec.kind}",
            "kind_changed",
        )


def content_of(item: DeployItem, around: Surroundings) -> VersionContent:
    """Return what a version is made from: all that matters to a replica and nothing else."""
    spec = item.spec
    predictor = spec.predictor
    return VersionContent(
        predictor=predictor,
        pod=spec.pod,
        bundle=item.bundle,
        lock=item.lock,
        runtime=around.runtime_digest if predictor else "",
        python=(predictor.python or around.python) if predictor else "",
        compute=spec.compute,
        env=dict(sorted(spec.env.items())),
        concurrency_per_replica=spec.concurrency.per_replica,
        readiness=spec.readiness,
        mounts=spec.mounts,
        nodes=spec.nodes if spec.nodes != Nodes() else None,
    )


def _create(spec: ApiSpec, content: VersionContent, digest: str, around: Surroundings) -> Accepted:
    version = Version(
        api=spec.name, number=1, digest=digest, content=content, created_at_s=around.now_s
    )
    first = spec.autoscaling.init_replicas
    record = ApiRecord(
        name=spec.name,
        spec=spec,
        replicas=first if first is not None else spec.autoscaling.min_replicas,
        created_at_s=around.now_s,
        updated_at_s=around.now_s,
        candidate=Candidate(version=version.name, spec=spec, since_s=around.now_s),
        next_number=2,
        revision=REVISIONS_PER_COMMIT * around.store_revision + 1,
    )
    count = _replicas(trial_replicas(record, spec))
    plan = ApiPlan(
        api=spec.name,
        action="create",
        version=version.name,
        explanation=f"starts {count} and serves {spec.endpoint} once they are ready",
    )
    return Accepted(plan, None, record, version)


def _same_version(
    before: StoredApi, version: Version, spec: ApiSpec, around: Surroundings
) -> Accepted:
    record = before.record
    current = record.candidate.spec if record.candidate else record.spec
    if current == spec:
        plan = ApiPlan(
            api=record.name,
            action="up to date",
            version=version.name,
            explanation="nothing changes",
        )
        return Accepted(plan, before)
    candidate = record.candidate
    if candidate is not None:
        candidate = msgspec.structs.replace(candidate, spec=spec)
    changed = msgspec.structs.replace(
        record,
        spec=spec if candidate is None or not record.stable else record.spec,
        candidate=candidate,
        # While a candidate is tried the serving version keeps its number.
        replicas=record.replicas if candidate and record.stable else wanted_replicas(record, spec),
        revision=record.revision + 1,
        in_force_since=record.in_force_since if candidate else record.revision + 1,
        updated_at_s=around.now_s,
    )
    plan = ApiPlan(
        api=record.name,
        action="settings",
        version=version.name,
        explanation="only settings change; no replica restarts",
        changes=spec_changes(current, spec, version.content, version.content),
    )
    return Accepted(plan, before, changed)


def new_version(
    before: StoredApi,
    spec: ApiSpec,
    content: VersionContent,
    around: Surroundings,
    changes: tuple[Change, ...],
) -> Accepted:
    """Return the record with a new version on its way; one that was on its way is retired."""
    record = before.record
    version = Version(
        api=record.name,
        number=record.next_number,
        digest=wire.digest(content),
        content=content,
        created_at_s=around.now_s,
    )
    revision = record.revision + 1
    retiring = record.retiring
    if record.candidate is not None:
        overtaken = Retiring(
            version=record.candidate.version, since_s=around.now_s, revision=revision
        )
        retiring = (*retiring, overtaken)
    changed = msgspec.structs.replace(
        record,
        spec=record.spec if record.stable else spec,
        candidate=Candidate(version=version.name, spec=spec, since_s=around.now_s),
        retiring=retiring,
        next_number=record.next_number + 1,
        revision=revision,
        updated_at_s=around.now_s,
    )
    count = _replicas(trial_replicas(changed, spec))
    serving = f"; {record.stable} serves until then" if record.stable else ""
    plan = ApiPlan(
        api=record.name,
        action="new version",
        version=version.name,
        explanation=f"starts {count} of {version.name} beside the old{serving}"
        if serving
        else f"starts {count} of {version.name}",
        changes=changes,
    )
    return Accepted(plan, before, changed, version)


def _replicas(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"
