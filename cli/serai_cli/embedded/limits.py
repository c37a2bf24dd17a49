"""What a cluster can do and one machine cannot. Pure."""

from collections.abc import Callable, Iterator, Sequence

from serai.spec import Problem, embedded_notes, embedded_problems
from serai.spec.types import ApiSpec


def not_on_one_machine(
    specs: Sequence[ApiSpec],
    docker_problem: str | None,
    mount_problem: Callable[[str], str | None],
) -> tuple[Problem, ...]:
    """Return what keeps valid specs from running under `serai up`.

    `docker_problem` says why dockerd cannot be used, None that it can; `mount_problem` why a
    folder may not be mounted.
    """
    return (
        *embedded_problems(specs),
        *_mounts(specs, mount_problem),
        *_containers(specs, docker_problem),
    )


def without_effect(spec: ApiSpec) -> tuple[str, ...]:
    """Return what a spec written for a cluster asks for in vain."""
    return tuple(str(note) for note in embedded_notes(spec))


def _containers(specs: Sequence[ApiSpec], docker_problem: str | None) -> Iterator[Problem]:
    for spec in specs:
        if docker_problem is not None and spec.pod is not None and spec.pod.containers:
            yield Problem(
                path=f"{spec.name}: pod.containers",
                message=f"containers cannot run here: {docker_problem}",
            )


def _mounts(
    specs: Sequence[ApiSpec], mount_problem: Callable[[str], str | None]
) -> Iterator[Problem]:
    for spec in specs:
        for index, mount in enumerate(spec.mounts):
            if (refused := mount_problem(mount.host)) is not None:
                yield Problem(
                    path=f"{spec.name}: mounts[{index}].host", message=refused, found=mount.host
                )
            in_container = spec.pod is not None and spec.pod.containers
            if mount.host != mount.path and not in_container:
                yield Problem(
                    path=f"{spec.name}: mounts[{index}]",
                    message="`serai up` runs replicas as plain processes, which see the node's own "
                    f"files: use {mount.host} in your code and as `path`",
                    found=mount.path,
                    allowed=mount.host,
                )
