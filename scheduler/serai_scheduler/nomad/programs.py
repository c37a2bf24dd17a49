"""How a replica without containers is run: its command, environment and files. Pure.

Nomad fills in `${…}` when it places a replica, so that every replica has the same job.
"""

from typing import Any

import msgspec

from serai.errors import ConfigError
from serai.model import Version
from serai.runtime_options import runtime_options
from serai.sharing import processes
from serai.spec.types import Predictor
from serai_scheduler.nomad.names import replica_template
from serai_scheduler.nomad.places import Places
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.text import literal, literals, template_of_json
from serai_scheduler.nomad.waiting import waiting_arguments

SHELL = "/bin/sh"
PORT_PREFIX = "http_"
CONFIG_FILE = "local/config.json"
STATUS_FILE = "status.json"
"""Below the task's `local` folder, where Nomad's own calls can read it."""

IN_FOLDER = 'cd "$0" && exec "$@"'


def port_label(process: int) -> str:
    """Return how Nomad calls the port of a process (counted from 0)."""
    return f"{PORT_PREFIX}{process}"


def identity(version: Version) -> dict[str, str]:
    """Return the variables that tell a replica what it is."""
    return {
        "SERAI_API": version.api,
        "SERAI_VERSION": version.name,
        "SERAI_REPLICA": replica_template(version),
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
        host = f"${{NOMAD_IP_{port_label(0)}}}"
        command, *arguments = runtime_command(version, places, host, settings)
        task["Templates"] = [config_template(content.predictor)]
    elif content.pod is not None and content.pod.command:
        folder = literal(places.bundle) or "${NOMAD_TASK_DIR}"
        command, arguments = SHELL, ["-c", IN_FOLDER, folder, *literals(content.pod.command)]
    else:
        raise ConfigError(f"{version.api} has neither a predictor nor a command to run")
    task["Config"] = {"command": command, "args": arguments}
    temporary = "${NOMAD_TASK_DIR}/../tmp"  # each task has this folder, in a chroot too
    task["Env"] = environment(version, places, temporary, settings)
    return task


def config_template(predictor: Predictor) -> dict[str, Any]:
    """Return the template that makes a predictor's `config` a file."""
    config = msgspec.json.encode(predictor.config, order="sorted").decode()
    return {
        "EmbeddedTmpl": template_of_json(config),
        "DestPath": CONFIG_FILE,
        "ChangeMode": "noop",
    }


def waiting(places: Places, settings: JobSettings) -> dict[str, Any]:
    """Return `Driver` and `Config` of the task that waits for the node's agent."""
    arguments = waiting_arguments(places, settings.cache_dir, settings.prepare_limit_s)
    return {
        "Driver": settings.program_driver,
        "Config": {"command": SHELL, "args": literals(arguments)},
    }


def runtime_command(
    version: Version, places: Places, host: str, settings: JobSettings
) -> list[str]:
    """Return the same options as on one machine; all that the runtime reads is fixed in the job.

    `host` is the address to listen on. Environment and bundle lie in a container as on its node.
    """
    predictor = version.content.predictor
    assert predictor is not None
    bundle = literal(places.bundle)
    ports = (f"${{NOMAD_PORT_{port_label(index)}}}" for index in range(processes(version)))
    return [
        *(literal(f"{places.environment}/bin/python"), "-m", "serai_runtime"),
        f"{bundle}/{literal(predictor.path)}",
        *("--host", host),
        *("--port", ",".join(ports)),
        *("--config", "${NOMAD_TASK_DIR}/" + CONFIG_FILE.removeprefix("local/")),
        *("--body-max-bytes", str(settings.body_max_bytes)),
        *("--total-timeout-s", f"{settings.total_timeout_s:g}"),
        *("--drain-limit-s", f"{settings.max_kill_timeout_s:g}"),
        *("--project-dir", bundle),
        *("--replica", replica_template(version)),
        *("--status-file", "${NOMAD_TASK_DIR}/" + STATUS_FILE),
        *runtime_options(version),
    ]


def environment(
    version: Version, places: Places, temporary: str, settings: JobSettings
) -> dict[str, str]:
    """Return a program's variables: Nomad fills in those of a value that it knows, no others.

    `temporary` is the folder for what it writes on the side.
    """
    content = version.content
    path = settings.path
    if places.environment:
        path = f"{places.environment}/bin:{path}"
    usual = {
        "PATH": path,
        "HOME": "${NOMAD_TASK_DIR}",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # bundle and environment are shared and read-only
    }
    if content.compute.gpu == 0:
        usual["CUDA_VISIBLE_DEVICES"] = ""
    return {
        **usual,
        **content.env,
        **_python_path(version, places),
        "TMPDIR": temporary,
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
