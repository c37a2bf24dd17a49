"""What this cluster's settings keep from running, told before anything is stored. Pure."""

from collections.abc import Iterator, Sequence
from posixpath import normpath

from serai import wire
from serai.errors import ConfigError
from serai.model import Version, digest_of
from serai.operator import DeployItem
from serai.spec import Problem
from serai.spec.types import ApiSpec
from serai_scheduler.deploy import Surroundings, content_of
from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.settings import JobSettings

SOME = digest_of(b"")
"""Stands for bundle and lock, which a spec does not tell: the job's shape depends on neither."""


def not_in_cluster(
    specs: Sequence[ApiSpec], settings: JobSettings, mount_roots: Sequence[str], python: str
) -> tuple[Problem, ...]:
    """Return what keeps valid specs from running here: mounts, and what no job can be made of.

    `python` is the cluster's Python version. Whether a folder below a mount root is a link that
    leads out of it, only its node can tell.
    """
    return tuple(
        problem for spec in specs for problem in _problems(spec, settings, mount_roots, python)
    )


def _problems(
    spec: ApiSpec, settings: JobSettings, mount_roots: Sequence[str], python: str
) -> Iterator[Problem]:
    for index, mount in enumerate(spec.mounts):
        if (refused := _mount_problem(mount.host, mount_roots)) is not None:
            path = f"{spec.name}: mounts[{index}].host"
            yield Problem(path=path, message=refused, found=mount.host)
    made = SOME if spec.predictor is not None else ""
    around = Surroundings(now_s=0.0, runtime_digest=SOME, python=python)
    content = content_of(DeployItem(spec=spec, bundle=made, lock=made), around)
    version = Version(
        api=spec.name, number=1, digest=wire.digest(content), content=content, created_at_s=0.0
    )
    try:
        job_of(version, (1,), settings)
    except ConfigError as error:
        yield Problem(path=spec.name, message=str(error).removeprefix(f"{spec.name}: "))


def _mount_problem(host: str, mount_roots: Sequence[str]) -> str | None:
    if not mount_roots:
        return "the operator of this cluster allows no mounts (`mount_roots` of its schedulers)"
    folder = normpath(host) + "/"
    if any(folder.startswith(root.rstrip("/") + "/") for root in mount_roots):
        return None
    return f"not below a folder that the operator allows: {', '.join(mount_roots)}"
