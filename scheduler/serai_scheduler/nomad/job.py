"""The Nomad job of a version, as the JSON of Nomad's API. Pure.

One job runs all replicas of a version and never changes but for its count: Nomad restarts every
replica of a job whose environment, command or meta differs. So all that stands in it comes from the
version and from the cluster's settings, and `${…}` from Nomad where replicas differ.
"""

from typing import Any

from serai.model import Version
from serai.sharing import processes
from serai_scheduler.nomad.names import job_id, job_name
from serai_scheduler.nomad.programs import port_label
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.tasks import CACHE_VOLUME, needs_cache_volume, tasks_of
from serai_scheduler.nomad.text import nanoseconds

GROUP = "replicas"
DEFAULT_DRAIN_S = 600.0
META_API = "serai_api"
META_VERSION = "serai_version"
META_DIGEST = "serai_digest"
STREAMS_PER_TASK = 2
LEAST_DEADLINE_S = 600.0
"""Nomad's default, which is above that of its `healthy_deadline`, as it must be."""
DEADLINE_SLACK_S = 60.0

Job = dict[str, Any]


def job_of(
    version: Version, count: int, settings: JobSettings, drain_s: float = DEFAULT_DRAIN_S
) -> Job:
    """Return the `Job` of `POST /v1/jobs` that runs `count` replicas of a version.

    `drain_s` is how long an answer may take (the spec's `timeouts.total`): Nomad changes the time
    that it gives to a replica's end in place, without a restart. Raises ConfigError for a version
    that these settings cannot run.
    """
    name = job_id(settings.prefix, job_name(version))
    return {
        "ID": name,
        "Name": name,
        "Type": "service",
        "Namespace": settings.namespace,
        "Datacenters": list(settings.datacenters),
        "Priority": settings.priority,
        "Update": _update(settings),
        "Meta": {
            META_API: version.api,
            META_VERSION: version.name,
            META_DIGEST: version.digest,
        },
        "TaskGroups": [_group(version, count, settings, drain_s)],
    }


def with_count(job: Job, count: int) -> Job:
    """Return a job with another count and nothing else changed, for a job as Nomad holds it.

    A job that runs is scaled like this and not built anew: another release of Serai, other settings
    or the hand of an operator may have made it differ, which would restart every replica.
    """
    groups = [
        {**group, "Count": count} if group["Name"] == GROUP else group
        for group in job["TaskGroups"]
    ]
    return {**job, "TaskGroups": groups}


def _update(settings: JobSettings) -> dict[str, Any]:
    """Return what keeps Nomad from making deployments: it refuses to scale while one goes on.

    A task may not get more time to end than a deployment has, though there is none.
    """
    deadline_s = max(LEAST_DEADLINE_S, settings.max_kill_timeout_s + DEADLINE_SLACK_S)
    return {"MaxParallel": 0, "ProgressDeadline": nanoseconds(deadline_s)}


def _group(version: Version, count: int, settings: JobSettings, drain_s: float) -> dict[str, Any]:
    tasks = tasks_of(version, drain_s, settings)
    logs_mib = settings.log_file_mib * settings.log_files * STREAMS_PER_TASK * len(tasks)
    group = {
        "Name": GROUP,
        "Count": count,
        "Networks": [{"Mode": "host", "DynamicPorts": _ports(version)}],
        "RestartPolicy": _restart_policy(version, settings),
        "ReschedulePolicy": {
            "Unlimited": True,
            "Attempts": 0,
            "Interval": 0,
            "Delay": nanoseconds(settings.reschedule_delay_s),
            "DelayFunction": "exponential",
            "MaxDelay": nanoseconds(
                max(settings.reschedule_delay_s, settings.reschedule_delay_most_s)
            ),
        },
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
        volume = {"Type": "host", "Source": settings.cache_volume, "ReadOnly": True}
        group["Volumes"] = {CACHE_VOLUME: {"Name": CACHE_VOLUME, **volume}}
    return group


def _ports(version: Version) -> list[dict[str, Any]]:
    pod = version.content.pod
    inside = {"To": pod.port} if pod is not None and pod.containers else {}
    return [{"Label": port_label(index), **inside} for index in range(processes(version))]


def _restart_policy(version: Version, settings: JobSettings) -> dict[str, Any]:
    """Return how often a replica is started again on its node before it gets another place.

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
