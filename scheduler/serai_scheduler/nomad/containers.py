"""How the containers of a replica are run by Nomad's docker driver. Pure."""

from typing import Any

from serai.model import Version
from serai.sharing import processes
from serai.spec.types import Container
from serai_scheduler.nomad.names import replica_template
from serai_scheduler.nomad.places import Places
from serai_scheduler.nomad.programs import (
    config_template,
    environment,
    identity,
    port_label,
    runtime_command,
)
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.text import MIB, literal, literals

LABEL_REPLICA = "serai.replica"
LABEL_API = "serai.api"
LABEL_VERSION = "serai.version"
LABEL_CONTAINER = "serai.container"
PYTHON_OF_VERSION = "{python}"
PREDICTOR = "predictor"
"""What the label says of a predictor's one container."""
DOCKER_LOG = {"max-size": "10m", "max-file": "2"}
"""dockerd keeps a log of its own; Nomad's is the one that is read."""
TEMPORARY = "${NOMAD_ALLOC_DIR}/tmp"
"""On the node's disk, unlike the `/tmp` of a container whose root is read-only."""
IN_MEMORY = "/tmp"


def container_name(index: int, spec: Container) -> str:
    """Return the name of a container's task (counted from 0): unique, whatever the spec says."""
    return f"container-{index}-{spec.name}".removesuffix("-")


def container(version: Version, index: int, main: str, settings: JobSettings) -> dict[str, Any]:
    """Return `Driver`, `Config` and `Env` of one container's task; `main` names the first one's.

    The others live in the first one's network, so that they reach each other on 127.0.0.1 and only
    the pod's port is seen from outside. That needs neither plugins nor images on the nodes; its
    price is that they all end when the first one does.
    """
    pod = version.content.pod
    assert pod is not None
    spec = pod.containers[index]
    config = _config(version, spec.image, settings)
    if spec.command:
        config["entrypoint"] = literals(spec.command)
    if spec.args:
        config["args"] = literals(spec.args)
    config["labels"] = [_labels(version, spec.name or str(index))]
    if index == 0:
        config["ports"] = [port_label(0)]
    else:
        config["network_mode"] = f"container:{main}-${{NOMAD_ALLOC_ID}}"
    env = {**version.content.env, **spec.env, "PORT": str(pod.port), **identity(version)}
    return {"Driver": "docker", "Config": config, "Env": env}


def predictor_container(version: Version, places: Places, settings: JobSettings) -> dict[str, Any]:
    """Return the task of a predictor in the cluster's image, which brings Python and libraries.

    Environment and bundle are shown where they lie on the node, so that the command is the one that
    runs without a container. It has a user without rights and writes only to Nomad's folders of its
    task and to a small `/tmp`.
    """
    content = version.content
    assert content.predictor is not None
    command, *arguments = runtime_command(version, places, "0.0.0.0", settings)
    image = settings.predictor_image.replace(PYTHON_OF_VERSION, content.python)
    config = _config(version, image, settings)
    parts = [_bind(folder, folder) for folder in (places.environment, places.bundle)]
    config |= {
        "entrypoint": [command],
        "args": arguments,
        "labels": [_labels(version, PREDICTOR)],
        "ports": [port_label(process) for process in range(processes(version))],
        "readonly_rootfs": True,
        "cap_drop": ["all"],
        "mount": [*parts, *_temporary(version, settings), *config.get("mount", [])],
    }
    return {
        "Driver": "docker",
        "User": settings.image_user,
        "Config": config,
        "Env": environment(version, places, TEMPORARY, settings),
        "Templates": [config_template(content.predictor)],
    }


def _config(version: Version, image: str, settings: JobSettings) -> dict[str, Any]:
    """Return what the driver is told of any container; it never has privileges."""
    content = version.content
    config: dict[str, Any] = {
        "image": literal(image),
        "image_pull_timeout": f"{settings.image_pull_limit_s}s",
        "init": True,
        "security_opt": ["no-new-privileges"],
        "logging": [{"type": "json-file", "config": [DOCKER_LOG]}],  # as a block of HCL is read
    }
    if content.compute.shm is not None:
        config["shm_size"] = content.compute.shm.bytes
    if content.mounts:
        config["mount"] = [_bind(one.host, one.path, one.read_only) for one in content.mounts]
    return config


def _bind(host: str, path: str, read_only: bool = True) -> dict[str, Any]:
    """Return a folder to show; `volumes` would silently make one that is missing on the node."""
    return {
        "type": "bind",
        "source": literal(host),
        "target": literal(path),
        "readonly": read_only,
    }


def _temporary(version: Version, settings: JobSettings) -> list[dict[str, Any]]:
    """Return the `/tmp` of a read-only root, none where the spec mounts one."""
    if any(mount.path == IN_MEMORY for mount in version.content.mounts):
        return []
    size_bytes = settings.temporary_mib * MIB
    return [{"type": "tmpfs", "target": IN_MEMORY, "tmpfs_options": {"size": size_bytes}}]


def _labels(version: Version, name: str) -> dict[str, str]:
    """Return the labels by which a node's agent knows whose container it sees."""
    return {
        LABEL_REPLICA: replica_template(version),
        LABEL_API: version.api,
        LABEL_VERSION: version.name,
        LABEL_CONTAINER: name,
    }
