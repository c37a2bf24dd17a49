"""The Nomad job of a version, as the JSON of Nomad's API. Pure.

One job runs all replicas of a version, each in a task group of its own that is called by the
replica's number. Groups come and go, and nothing else changes: Nomad restarts a replica whose
environment, command or meta differs. So all that stands in a job comes from the version and from
the cluster's settings, and `${…}` from Nomad where replicas differ.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from serai.engine import USUAL_DRAIN_S
from serai.model import Version
from serai.sharing import processes
from serai_scheduler.nomad.names import job_id, job_name, number_of
from serai_scheduler.nomad.programs import port_label
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.tasks import (
    CACHE_VOLUME,
    WAITING_TASK,
    kill_timeout_s,
    needs_cache_volume,
    tasks_of,
)
from serai_scheduler.nomad.text import nanoseconds
from serai_scheduler.nomad.where import where

META_API = "serai_api"
META_VERSION = "serai_version"
META_DIGEST = "serai_digest"
STREAMS_PER_TASK = 2
LEAST_DEADLINE_S = 600.0
"""Nomad's default, which is above that of its `healthy_deadline`, as it must be."""
DEADLINE_SLACK_S = 60.0

KEPT_BY_NOMAD = (
    *("CreateIndex", "ModifyIndex", "Version", "Stable", "Stop", "SubmitTime", "Status"),
    *("StatusDescription", "ParentID", "Dispatched", "DispatchIdempotencyToken", "NomadTokenID"),
    *("ConsulToken", "VaultToken", "ConsulNamespace", "VaultNamespace"),
)
"""What Nomad writes into a job by itself, or takes in and does not tell."""

Job = dict[str, Any]


def job_of(
    version: Version,
    numbers: Iterable[int],
    settings: JobSettings,
    drain_s: float = USUAL_DRAIN_S,
) -> Job:
    """Return the `Job` of `POST /v1/jobs` that runs the replicas of a version with these numbers.

    `drain_s` is how long an answer may take (the spec's `timeouts.total`). Raises ConfigError for a
    version that these settings cannot run.
    """
    name = job_id(settings.prefix, job_name(version))
    return {
        "ID": name,
        "Name": name,
        "Type": "service",
        "Namespace": settings.namespace,
        "Datacenters": list(settings.datacenters),
        **where(version.content.nodes),
        "Priority": settings.priority,
        "Update": _update(settings),
        "Meta": {
            META_API: version.api,
            META_VERSION: version.name,
            META_DIGEST: version.digest,
        },
        "TaskGroups": [
            _group(version, number, settings, drain_s) for number in sorted(set(numbers))
        ],
    }


def numbers_of(job: Mapping[str, Any]) -> frozenset[int]:
    """Return the numbers of the replicas that a job, as Nomad holds it, is to run."""
    if job.get("Stop"):
        return frozenset()
    found = (number_of(group["Name"]) for group in job["TaskGroups"] if group["Count"])
    return frozenset(number for number in found if number is not None)


def multiplied(held: Mapping[str, Any]) -> bool:
    """Say whether somebody has given a replica's group a count: it would be several at once."""
    groups = () if held.get("Stop") else held["TaskGroups"]
    return any(group["Count"] > 1 and number_of(group["Name"]) is not None for group in groups)


def others_of(held: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the groups of a job that are not called by a number: an operator's, not ours."""
    if held.get("Stop"):
        return []
    return [group for group in held["TaskGroups"] if number_of(group["Name"]) is None]


def as_handed_in(held: Mapping[str, Any]) -> Job:
    """Return a job as Nomad holds it as somebody could hand it in, with the index to check."""
    return {key: value for key, value in held.items() if key not in KEPT_BY_NOMAD}


def with_replicas(
    held: Mapping[str, Any], add: Collection[int], remove: Collection[int] = ()
) -> Job:
    """Return a job as Nomad holds it, with replicas more or less and nothing else changed.

    A job that runs is never built anew: another release of Serai, other settings or the hand of an
    operator may have made it differ, which would restart every replica. A new replica is a copy of
    one that is there: a job in which none of ours is cannot grow. With none left the job is a
    stopped one, which keeps the last of its groups, since Nomad refuses a job without. Groups that
    are not called by a number are not ours and stay.
    """
    groups = held["TaskGroups"]
    ours = numbers_of(held)
    kept = [
        {**group, "Count": 1} if number is not None else group
        for group in groups
        if (number := number_of(group["Name"])) is None or number in ours - set(remove)
    ]
    mine = [group for group in groups if number_of(group["Name"]) is not None]
    kept += [{**mine[0], "Name": str(n), "Count": 1} for n in sorted(set(add) - ours)]
    return {**held, "TaskGroups": kept} if kept else {**held, "Stop": True}


def with_drain(held: Mapping[str, Any], drain_s: float, settings: JobSettings) -> Job:
    """Return a job as Nomad holds it whose replicas may take `drain_s` to answer, else the same.

    Nomad changes that in place. A task that runs keeps the time that it was started with until
    it is started anew, or its node's Nomad is.
    """
    groups = [
        _drained(group, drain_s, settings) if number_of(group["Name"]) is not None else group
        for group in held["TaskGroups"]
    ]
    return {**held, "TaskGroups": groups}


def _drained(group: Mapping[str, Any], drain_s: float, settings: JobSettings) -> dict[str, Any]:
    """Return a group with another time to end, at most what the job was registered with."""
    most = (group.get("Update") or {}).get("ProgressDeadline")
    limit = nanoseconds(kill_timeout_s(drain_s, settings))
    kill = {"KillTimeout": min(limit, most) if most else limit}
    tasks = [task if task["Name"] == WAITING_TASK else {**task, **kill} for task in group["Tasks"]]
    return {**group, "Tasks": tasks}


def _update(settings: JobSettings) -> dict[str, Any]:
    """Return what keeps Nomad from making deployments: it refuses to scale while one goes on.

    A task may not get more time to end than a deployment has, though there is none.
    """
    deadline_s = max(LEAST_DEADLINE_S, settings.max_kill_timeout_s + DEADLINE_SLACK_S)
    return {"MaxParallel": 0, "ProgressDeadline": nanoseconds(deadline_s)}


def _group(version: Version, number: int, settings: JobSettings, drain_s: float) -> dict[str, Any]:
    tasks = tasks_of(version, drain_s, settings)
    logs_mib = settings.log_file_mib * settings.log_files * STREAMS_PER_TASK * len(tasks)
    group = {
        "Name": str(number),
        "Count": 1,
        "Networks": [{"Mode": "host", "DynamicPorts": _ports(version)}],
        "RestartPolicy": _restart_policy(version, settings),
        # What failed for good is replaced by the scheduler, which waits longer each time. What a
        # lost node had gets another place from Nomad all the same.
        "ReschedulePolicy": {"Unlimited": False, "Attempts": 0, "Interval": 0},
        # Also what says when a replica counts as healthy, since there is no deployment.
        "Migrate": {
            "MaxParallel": 1,
            "HealthCheck": "checks",
            "MinHealthyTime": nanoseconds(settings.healthy_after_s),
            "HealthyDeadline": nanoseconds(settings.healthy_within_s),
        },
        "EphemeralDisk": {"SizeMB": settings.disk_mib + logs_mib},
        "Tasks": tasks,
    }
    if needs_cache_volume(version, settings):
        volume = {"Type": "host", "Source": settings.cache_volume, "ReadOnly": False}
        group["Volumes"] = {CACHE_VOLUME: {"Name": CACHE_VOLUME, **volume}}
    return group


def _ports(version: Version) -> list[dict[str, Any]]:
    port = version.content.inner_port
    inside = {} if port is None else {"To": port}
    return [{"Label": port_label(index), **inside} for index in range(processes(version))]


def _restart_policy(version: Version, settings: JobSettings) -> dict[str, Any]:
    """Return how often a replica is started again on its node before it has failed for good.

    Several containers share the first one's network: none is started again without the others.
    """
    pod = version.content.pod
    together = pod is not None and len(pod.containers) > 1
    return {
        "Attempts": 0 if together else settings.restarts,
        "Interval": nanoseconds(settings.restart_interval_s),
        "Delay": nanoseconds(settings.restart_delay_s),
        "Mode": "fail",
    }
