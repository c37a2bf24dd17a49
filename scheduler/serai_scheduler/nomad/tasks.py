"""The tasks of a replica: one that waits for the node's agent, and those that serve. Pure."""

from typing import Any

from serai.consul.services import service_name
from serai.model import Version
from serai.sharing import processes, shares
from serai_scheduler.nomad.containers import container, container_name, predictor_container
from serai_scheduler.nomad.names import replica_template
from serai_scheduler.nomad.places import Places, places_of
from serai_scheduler.nomad.programs import port_label, program, waiting
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.text import mebibytes, nanoseconds

MAIN_TASK = "replica"
"""The task that serves; of several containers, the one with the port."""
WAITING_TASK = "prepare"
CACHE_VOLUME = "cache"
LEAST_MEMORY_MIB = 10
"""Nomad refuses a task with less."""
WAITING_MEMORY_MIB = 32
"""Executors start within the limit of their task and need 13 MiB; replicas ask for more anyway."""
LEAST_MHZ = 10
"""Nomad refuses nothing, but its executor cannot start a task with 1."""
LEAST_CHECK_PERIOD_S = 1.0
"""Nomad refuses a check that asks more often; gateways probe by themselves."""
DRAIN_SLACK_S = 5.0
"""A replica whose last answer took all of its time still has to end."""


def tasks_of(version: Version, drain_s: float, settings: JobSettings) -> list[dict[str, Any]]:
    """Return all tasks of a replica, the order without meaning; raise ConfigError as `program`."""
    places = places_of(version, settings)
    limit_s = kill_timeout_s(drain_s, settings)
    pod = version.content.pod
    specs = pod.containers if pod is not None else ()
    resources = _resources(version, max(1, len(specs)), settings)
    if specs:
        main = container(version, 0, MAIN_TASK, settings)
    elif version.content.predictor is not None and settings.predictor_image:
        main = predictor_container(version, places, settings)
    else:
        main = program(version, places, settings)
    tasks = [
        {
            "Name": MAIN_TASK,
            "Leader": True,  # it ends first, and with it the replica
            **main,
            **_common(settings, limit_s),
            "ShutdownDelay": nanoseconds(settings.leave_s),
            "Resources": resources[0],
            "Services": services(version, settings),
        }
    ]
    for index, spec in enumerate(specs[1:], start=1):
        tasks.append(
            {
                "Name": container_name(index, spec),
                "Lifecycle": {"Hook": "poststart", "Sidecar": True},
                **container(version, index, MAIN_TASK, settings),
                **_common(settings, limit_s),
                "Resources": resources[index],
            }
        )
    if places.markers:
        tasks.insert(0, _waiting_task(places, settings))
    if needs_cache_volume(version, settings):
        for task in (task for task in tasks if task["Driver"] == "exec"):
            asks = task["Name"] == WAITING_TASK  # for which it leaves a file
            task["VolumeMounts"] = [
                {"Volume": CACHE_VOLUME, "Destination": settings.cache_dir, "ReadOnly": not asks}
            ]
    return tasks


def kill_timeout_s(drain_s: float, settings: JobSettings) -> float:
    """Return how long a replica has to end whose answers may take `drain_s`."""
    return min(drain_s + DRAIN_SLACK_S, settings.max_kill_timeout_s)


def needs_cache_volume(version: Version, settings: JobSettings) -> bool:
    """Say whether its tasks run in a root of their own, in which the node's cache is not seen."""
    return settings.program_driver == "exec" and bool(places_of(version, settings).markers)


def services(version: Version, settings: JobSettings) -> list[dict[str, Any]]:
    """Return the services in Consul, one per process, all of one name."""
    content = version.content
    period_s = max(LEAST_CHECK_PERIOD_S, content.readiness.period.seconds)
    check = {
        "Name": "ready",
        "Type": "http",
        "Path": content.readiness.path,
        "Interval": nanoseconds(period_s),
        "Timeout": nanoseconds(settings.check_timeout_s),
        "InitialStatus": "critical",
        "FailuresBeforeCritical": content.readiness.failures,
    }
    capacities = shares(content.concurrency_per_replica, processes(version))
    return [
        {
            "Name": service_name(version.api),
            "Provider": "consul",
            "PortLabel": port_label(index),
            "AddressMode": "host",
            "Meta": {
                "version": version.name,
                "replica": replica_template(version),
                "process": str(index),
                "capacity": str(capacity),
            },
            "Checks": [check],
        }
        for index, capacity in enumerate(capacities)
    ]


def _common(settings: JobSettings, limit_s: float) -> dict[str, Any]:
    return {
        "KillSignal": "SIGTERM",
        "KillTimeout": nanoseconds(limit_s),
        "LogConfig": {"MaxFiles": settings.log_files, "MaxFileSizeMB": settings.log_file_mib},
    }


def _waiting_task(places: Places, settings: JobSettings) -> dict[str, Any]:
    return {
        "Name": WAITING_TASK,
        "Lifecycle": {"Hook": "prestart", "Sidecar": False},
        **waiting(places, settings),
        **_common(settings, DRAIN_SLACK_S),
        "Resources": {"CPU": LEAST_MHZ, "MemoryMB": WAITING_MEMORY_MIB},
        # It waited as long as it may: another node is the better second try.
        "RestartPolicy": {
            "Attempts": 0,
            "Mode": "fail",
            "Interval": nanoseconds(settings.restart_interval_s),
            "Delay": nanoseconds(settings.restart_delay_s),
        },
    }


def _resources(version: Version, parts: int, settings: JobSettings) -> list[dict[str, Any]]:
    """Return the resources of the tasks that serve; together they are what the replica needs.

    Nomad limits tasks, not groups, so that several containers get equal parts.
    """
    compute = version.content.compute
    mhz = -(-compute.cpu.millicores * settings.mhz_per_core // 1000)
    memory = mebibytes(compute.mem.bytes) if compute.mem else settings.default_memory_mib
    resources: list[dict[str, Any]] = [
        {"CPU": max(LEAST_MHZ, cpu), "MemoryMB": max(LEAST_MEMORY_MIB, mib)}
        for cpu, mib in zip(shares(mhz, parts), shares(memory, parts), strict=True)
    ]
    if compute.gpu > 0:
        resources[0]["Devices"] = [{"Name": "nvidia/gpu", "Count": compute.gpu}]
    return resources
