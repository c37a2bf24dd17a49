"""What a cluster can do and one machine cannot. Pure."""

from collections.abc import Iterator, Sequence

from serai.spec import Problem, embedded_problems
from serai.spec.types import ApiSpec


def not_on_one_machine(specs: Sequence[ApiSpec]) -> tuple[Problem, ...]:
    """Return what keeps valid specs from running under `serai up`."""
    return (*embedded_problems(specs), *_mounts(specs))


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
