"""How a replica without containers is run: its command, environment and files. Pure.

Nomad fills in `${…}` when it places a replica, so that every replica has the same job.
"""

from typing import Any

import msgspec

from serai.errors import ConfigError
from serai.model import Version
from serai.sharing import processes, shares
from serai_scheduler.nomad.places import Places
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.text import literal, literals, template_of_json

SHELL = "/bin/sh"
CONFIG_FILE = "local/config.json"
STATUS_FILE = "status.json"
"""Below the task's `local` folder, where Nomad's own calls can read it."""

IN_FOLDER = 'cd "$0" && exec "$@"'
WAIT = """\
limit=$1; shift
waited=0
for file in "$@"; do
  until [ -e "$file" ]; do
    if [ "$waited" -ge "$limit" ]; then
      echo "gave up after $limit s: this node's agent has not made $file" >&2
      exit 1
    fi
    [ $((waited % 30)) -ne 0 ] || echo "waiting until this node's agent has made $file" >&2
    sleep 1
    waited=$((waited + 1))
  done
done
"""
"""Arguments: the most seconds in all, then the files."""


def port_label(process: int) -> str:
    """Return how Nomad calls the port of a process (counted from 0)."""
    return f"http_{process}"


def identity(version: Version) -> dict[str, str]:
    """Return the variables that tell a replica what it is."""
    return {
        "SERAI_API": version.api,
        "SERAI_VERSION": version.name,
        "SERAI_REPLICA": "${NOMAD_ALLOC_ID}",
    }


def program(version: Version, places: Places, settings: JobSettings) -> dict[str, Any]:
    """Return `Driver`, `Config`, `Env` and `Templates` of the task that serves.

    Raises ConfigError for a version that cannot be run without containers.
    """
    content = version.content
    for mount in content.mounts:
        if settings.program_driver != "raw_exec" or mount.host != mount.path:
            raise ConfigError(
                f"{version.api}: {mount.host} cannot be shown as {mount.path} without a container; "
                "use the same path for both, and the driver raw_exec"
            )
    task: dict[str, Any] = {"Driver": settings.program_driver}
    if content.predictor is not None:
        command, *arguments = _runtime_command(version, places, settings)
        config = msgspec.json.encode(content.predictor.config, order="sorted").decode()
        task["Templates"] = [
            {
                "EmbeddedTmpl": template_of_json(config),
                "DestPath": CONFIG_FILE,
                "ChangeMode": "noop",
            }
        ]
    elif content.pod is not None and content.pod.command:
        folder = literal(places.bundle) or "${NOMAD_TASK_DIR}"
        command, arguments = SHELL, ["-c", IN_FOLDER, folder, *literals(content.pod.command)]
    else:
        raise ConfigError(f"{version.api} has neither a predictor nor a command to run")
    task["Config"] = {"command": command, "args": arguments}
    task["Env"] = _environment(version, places, settings)
    return task


def waiting(places: Places, settings: JobSettings) -> dict[str, Any]:
    """Return `Driver` and `Config` of the task that waits for the node's agent."""
    arguments = ["-c", literal(WAIT), "wait", str(settings.prepare_limit_s)]
    return {
        "Driver": settings.program_driver,
        "Config": {"command": SHELL, "args": [*arguments, *literals(places.markers)]},
    }


def _runtime_command(version: Version, places: Places, settings: JobSettings) -> list[str]:
    """Return the same options as on one machine; all that the runtime reads is fixed in the job."""
    content, predictor = version.content, version.content.predictor
    assert predictor is not None
    count = processes(version)
    bundle = literal(places.bundle)
    capacities = shares(content.concurrency_per_replica, count)
    ports = ",".join(f"${{NOMAD_PORT_{port_label(index)}}}" for index in range(count))
    command = [
        *(literal(f"{places.environment}/bin/python"), "-m", "serai_runtime"),
        f"{bundle}/{literal(predictor.path)}",
        *("--host", f"${{NOMAD_IP_{port_label(0)}}}"),
        *("--port", ports),
        *("--threads", str(predictor.threads)),
        *("--concurrency", ",".join(str(capacity) for capacity in capacities)),
        *("--config", "${NOMAD_TASK_DIR}/" + CONFIG_FILE.removeprefix("local/")),
        *("--body-max-bytes", str(settings.body_max_bytes)),
        *("--total-timeout-s", f"{settings.total_timeout_s:g}"),
        *("--drain-limit-s", f"{settings.max_kill_timeout_s:g}"),
        *("--project-dir", bundle),
        *("--log-format", "json"),
        *("--api", version.api),
        *("--version-name", version.name),
        *("--replica", "${NOMAD_ALLOC_ID}"),
        *("--status-file", "${NOMAD_TASK_DIR}/" + STATUS_FILE),
    ]
    if predictor.batch is not None:
        command += ["--batch-max-size", str(predictor.batch.max_size)]
        command += ["--batch-max-wait-ms", f"{predictor.batch.max_wait_ms:g}"]
    return command


def _environment(version: Version, places: Places, settings: JobSettings) -> dict[str, str]:
    """Return a program's variables: Nomad fills in those of a value that it knows, no others."""
    content = version.content
    path = settings.path
    if places.environment:
        path = f"{places.environment}/bin:{path}"
    environment = {
        "PATH": path,
        "HOME": "${NOMAD_TASK_DIR}",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # bundle and environment are shared and read-only
    }
    if content.compute.gpu == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return {
        **environment,
        **content.env,
        **_python_path(version, places),
        "TMPDIR": "${NOMAD_TASK_DIR}/../tmp",  # each task has this folder, in a chroot too
        "PORT": f"${{NOMAD_PORT_{port_label(0)}}}",
        **identity(version),
    }


def _python_path(version: Version, places: Places) -> dict[str, str]:
    """Return PYTHONPATH below the bundle: a predictor's interpreter starts in another folder."""
    told = version.content.env.get("PYTHONPATH")
    if told is None or not places.bundle:
        return {}
    return {
        "PYTHONPATH": ":".join(
            one if one.startswith("/") else f"{places.bundle}/{one}"
            for one in told.split(":")
            if one
        )
    }
