"""How the containers of a replica are run by Nomad's docker driver. Pure."""

from typing import Any

from serai.model import Version
from serai.spec.types import Container
from serai_scheduler.nomad.programs import identity, port_label
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.text import literal, literals

LABEL_REPLICA = "serai.replica"
LABEL_API = "serai.api"
LABEL_VERSION = "serai.version"
LABEL_CONTAINER = "serai.container"
DOCKER_LOG = {"max-size": "10m", "max-file": "2"}
"""dockerd keeps a log of its own; Nomad's is the one that is read."""


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
    config = _config(version, spec, settings)
    config["labels"] = [_labels(version, spec.name or str(index))]
    if index == 0:
        config["ports"] = [port_label(0)]
    else:
        config["network_mode"] = f"container:{main}-${{NOMAD_ALLOC_ID}}"
    env = {**version.content.env, **spec.env, "PORT": str(pod.port), **identity(version)}
    return {"Driver": "docker", "Config": config, "Env": env}


def _config(version: Version, spec: Container, settings: JobSettings) -> dict[str, Any]:
    """Return what the driver is told of a container; it never has privileges."""
    content = version.content
    config: dict[str, Any] = {
        "image": spec.image,
        "image_pull_timeout": f"{settings.image_pull_limit_s}s",
        "init": True,
        "security_opt": ["no-new-privileges"],
        "logging": {"type": "json-file", "config": [DOCKER_LOG]},
    }
    if spec.command:
        config["entrypoint"] = literals(spec.command)
    if spec.args:
        config["args"] = literals(spec.args)
    if content.compute.shm is not None:
        config["shm_size"] = content.compute.shm.bytes
    if content.mounts:
        # `volumes` would silently make a folder that is missing on the node.
        config["mount"] = [
            {
                "type": "bind",
                "source": literal(mount.host),
                "target": literal(mount.path),
                "readonly": mount.read_only,
            }
            for mount in content.mounts
        ]
    return config


def _labels(version: Version, name: str) -> dict[str, str]:
    """Return the labels by which a node's agent knows whose container it sees."""
    return {
        LABEL_REPLICA: "${NOMAD_ALLOC_ID}",
        LABEL_API: version.api,
        LABEL_VERSION: version.name,
        LABEL_CONTAINER: name,
    }
