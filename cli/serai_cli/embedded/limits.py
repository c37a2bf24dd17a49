"""What a cluster can do and one machine cannot. Pure."""

from collections.abc import Iterator, Sequence

from serai.spec import Problem, embedded_problems
from serai.spec.types import ApiSpec


def not_on_one_machine(specs: Sequence[ApiSpec], docker_problem: str | None) -> tuple[Problem, ...]:
    """Return what keeps valid specs from running under `serai up`.

    `docker_problem` says why dockerd cannot be used, None that it can.
    """
    return (*embedded_problems(specs), *_mounts(specs), *_containers(specs, docker_problem))


def _containers(specs: Sequence[ApiSpec], docker_problem: str | None) -> Iterator[Problem]:
    for spec in specs:
        if docker_problem is not None and spec.pod is not None and spec.pod.containers:
            yield Problem(
                path=f"{spec.name}: pod.containers",
                message=f"containers cannot run here: {docker_problem}",
            )


def _mounts(specs: Sequence[ApiSpec]) -> Iterator[Problem]:
    for spec in specs:
        for index, mount in enumerate(spec.mounts):
            if mount.host != mount.path:
                yield Problem(
                    path=f"{spec.name}: mounts[{index}]",
                    message="`serai up` runs replicas as plain processes, which see the node's own "
                    f"files: use {mount.host} in your code and as `path`",
                    found=mount.path,
                    allowed=mount.host,
                )
