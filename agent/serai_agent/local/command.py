"""What to run for a version on this machine: command, environment and ports. Pure."""

from dataclasses import dataclass
from pathlib import Path

from serai.errors import Refused
from serai.model import Version

RUNTIME_QUEUE = 8
DEREGISTRATION_DELAY_S = 0.5
"""How long a replica serves on after SIGTERM; the gateways were told before."""


@dataclass(frozen=True)
class Place:
    """Where a replica runs: folders as absolute paths, `python` of its environment."""

    folder: Path
    project: Path
    python: Path | None
    ports: tuple[int, ...]


@dataclass(frozen=True)
class Command:
    """A command to run, with its whole environment and its working directory."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    folder: Path


def processes_of(version: Version) -> int:
    """Return how many servers a replica of this version has."""
    predictor = version.content.predictor
    return predictor.processes if predictor else 1


def capacities(version: Version) -> tuple[int, ...]:
    """Split a replica's concurrency among its processes; the sum is exact."""
    count, total = processes_of(version), version.content.concurrency_per_replica
    return tuple(max(1, total // count + (index < total % count)) for index in range(count))


def command_for(replica: str, version: Version, place: Place, inherited: dict[str, str]) -> Command:
    """Return what to run; `inherited` is what a replica may see of the engine's environment."""
    content = version.content
    environment = {
        **inherited,
        "HOME": str(place.folder / "tmp"),
        "TMPDIR": str(place.folder / "tmp"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PORT": str(place.ports[0]),
        "SERAI_API": version.api,
        "SERAI_VERSION": version.name,
        "SERAI_REPLICA": replica,
        **content.env,
    }
    if content.compute.gpu == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if content.predictor is not None:
        arguments = _runtime_arguments(replica, version, place)
    elif content.pod is not None and content.pod.command:
        arguments = content.pod.command
    else:
        raise Refused(
            "containers need dockerd, which this release does not drive yet; "
            "give pod.command, a program that listens on $PORT",
            "no_docker",
        )
    return Command(arguments, environment, place.project)


def _runtime_arguments(replica: str, version: Version, place: Place) -> tuple[str, ...]:
    predictor = version.content.predictor
    assert predictor is not None and place.python is not None
    arguments = [
        *(str(place.python), "-m", "serai_runtime", str(place.project / predictor.path)),
        *("--port", ",".join(str(port) for port in place.ports)),
        *("--threads", str(predictor.threads)),
        *("--concurrency", ",".join(str(share) for share in capacities(version))),
        *("--queue", str(RUNTIME_QUEUE)),
        *("--config", str(place.folder / "config.json")),
        *("--deregistration-delay-s", str(DEREGISTRATION_DELAY_S)),
        *("--project-dir", str(place.project)),
        *("--api", version.api, "--version-name", version.name, "--replica", replica),
        *("--status-file", str(place.folder / "runtime.json")),
        *("--body-max-bytes", str(2**30)),
    ]
    if predictor.batch is not None:
        arguments += ["--batch-max-size", str(predictor.batch.max_size)]
        arguments += ["--batch-max-wait-ms", str(predictor.batch.max_wait_ms)]
    return tuple(arguments)
