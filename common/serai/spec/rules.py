"""What the values of a spec must be together: the same rules for files and for specs as JSON."""

import re
from collections.abc import Callable, Iterator, Sequence

from serai.spec import codec
from serai.spec.constraints import spec_type, unfit
from serai.spec.findings import Finding, Path
from serai.spec.problems import shown
from serai.spec.scaling_rules import scaling_findings
from serai.spec.types import ApiSpec, Environment, Nodes

MOST_SPEC_BYTES = 256 * 2**10
MOST_LEVELS = 32
"""Of a predictor's config; JSON that is nested deeper than some hundreds cannot be read again."""
MOST_SEGMENTS = 4
MOST_NODE_METAS = 8
RESERVED_SEGMENT = "_serai"
RESERVED_PREFIXES = ("SERAI_", "CORTEX_")
SET_FOR_EACH_REPLICA = frozenset({"PORT", "TMPDIR"})
_SEGMENT = re.compile(r"[a-z0-9._~-]+")


def findings(spec: ApiSpec) -> Iterator[Finding]:
    """Yield all that is wrong with one spec."""
    alone = list(unfit(spec, spec_type()))
    yield from alone
    for rule in RULES:
        for finding in rule(spec):
            if not any(finding.concerns(one.path) for one in alone):
                yield finding


def findings_together(specs: Sequence[ApiSpec]) -> Iterator[tuple[int, Finding]]:
    """Yield what several specs may not share, with the index of the later one."""
    names: dict[str, int] = {}
    endpoints: dict[str, int] = {}
    for index, spec in enumerate(specs):
        if spec.name and names.setdefault(spec.name, index) != index:
            yield index, Finding(("name",), "another API here has the same name", shown(spec.name))
        first = endpoints.setdefault(endpoint_of(spec), index)
        if first != index and specs[first].name != spec.name:
            message = f"the API {shown(specs[first].name)} here has the same endpoint"
            yield index, Finding(("endpoint",), message, shown(endpoint_of(spec)))


def endpoint_of(spec: ApiSpec) -> str:
    """Return the endpoint with its default, one `/` before it and none behind it."""
    return "/" + (spec.endpoint.strip("/") or spec.name)


def _endpoint(spec: ApiSpec) -> Iterator[Finding]:
    path: Path = ("endpoint",)
    if not spec.endpoint:
        return
    segments = spec.endpoint.removeprefix("/").removesuffix("/").split("/")
    if segments == [""]:
        yield Finding(path, "would take every request", shown(spec.endpoint), "a path below `/`")
    elif "" in segments:
        yield Finding(path, "holds `//`", shown(spec.endpoint))
    elif any(not _SEGMENT.fullmatch(part) or part in (".", "..") for part in segments):
        allowed = "lower-case letters, digits and `-` `_` `.` `~` between `/`"
        yield Finding(path, "not allowed", shown(spec.endpoint), allowed)
    elif len(segments) > MOST_SEGMENTS:
        yield Finding(path, "too deep", shown(spec.endpoint), f"at most {MOST_SEGMENTS} parts")
    elif segments[0] == RESERVED_SEGMENT:
        yield Finding(path, f"`/{RESERVED_SEGMENT}` is Serai's own", shown(spec.endpoint))


def _one_of(spec: ApiSpec) -> Iterator[Finding]:
    both: tuple[Path, ...] = (("predictor",), ("pod",))
    if spec.predictor is None and spec.pod is None:
        message = (
            "nothing to run: `predictor` (a Python class) or `pod` (any HTTP server) is missing"
        )
        yield Finding((), message, others=both)
    if spec.predictor is not None and spec.pod is not None:
        yield Finding(("pod",), "`predictor` and `pod` exclude each other; remove one", others=both)


def _predictor(spec: ApiSpec) -> Iterator[Finding]:
    if spec.predictor is None:
        return
    path: Path = ("predictor", "path")
    yield from _inside(spec.predictor.path, path)
    if spec.predictor.path and not spec.predictor.path.endswith(".py"):
        yield Finding(
            path, "must be a Python file", shown(spec.predictor.path), "a path ending .py"
        )
    yield from _inside(spec.predictor.requirements or "", ("predictor", "requirements"))
    per_replica, processes = spec.concurrency.per_replica, spec.predictor.processes
    if 0 < per_replica < processes:
        message = f"{processes - per_replica} of {processes} processes would never be asked"
        yield Finding(
            ("concurrency", "per_replica"),
            message,
            str(per_replica),
            f"{processes} or more, or fewer `predictor.processes`",
            others=(("predictor", "processes"),),
        )


def _inside(file: str, path: Path) -> Iterator[Finding]:
    if file.startswith("/") or ".." in file.split("/"):
        yield Finding(path, "must lie in the folder of the spec", shown(file), "a relative path")


def _pod(spec: ApiSpec) -> Iterator[Finding]:
    if spec.pod is None:
        return
    both: tuple[Path, ...] = (("pod", "containers"), ("pod", "command"))
    if not spec.pod.containers and not spec.pod.command:
        yield Finding(("pod",), "nothing to run: `containers` or `command` is missing", others=both)
    if spec.pod.containers and spec.pod.command:
        message = "is for a pod without containers; a container has a `command` of its own"
        yield Finding(("pod", "command"), message, others=both)
    seen: set[str] = set()
    for index, container in enumerate(spec.pod.containers):
        if container.name and container.name in seen:
            path: Path = ("pod", "containers", index, "name")
            yield Finding(path, "another container has this name", shown(container.name))
        seen.add(container.name)


def _compute(spec: ApiSpec) -> Iterator[Finding]:
    mem, shm = spec.compute.mem, spec.compute.shm
    if mem is not None and shm is not None and shm > mem:
        others: tuple[Path, ...] = (("compute", "mem"),)
        message = "larger than `mem`, which it is a part of"
        yield Finding(("compute", "shm"), message, str(shm), f"at most {mem}", others=others)


def _timeouts(spec: ApiSpec) -> Iterator[Finding]:
    first_byte, total = spec.timeouts.first_byte, spec.timeouts.total
    if first_byte > total:
        others: tuple[Path, ...] = (("timeouts", "total"),)
        yield Finding(
            ("timeouts", "first_byte"),
            "longer than `total`",
            str(first_byte),
            f"at most {total}",
            others=others,
        )


def _autoscaling(spec: ApiSpec) -> Iterator[Finding]:
    running, waiting = spec.concurrency.per_replica, spec.concurrency.queue
    yield from scaling_findings(spec.autoscaling, running, waiting)


def _nodes(spec: ApiSpec) -> Iterator[Finding]:
    wanted, rather = spec.nodes, spec.nodes.prefer
    for path, meta in (
        (("nodes", "meta"), wanted.meta),
        (("nodes", "prefer", "meta"), rather.meta),
    ):
        if len(meta) > MOST_NODE_METAS:
            yield Finding(path, "too many entries", str(len(meta)), f"at most {MOST_NODE_METAS}")


def _mounts(spec: ApiSpec) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for index, mount in enumerate(spec.mounts):
        for key, value in (("host", mount.host), ("path", mount.path)):
            if ".." in value.split("/"):
                yield Finding(("mounts", index, key), "must not hold `..`", shown(value))
        shown_at = mount.path.rstrip("/")
        if mount.path and not shown_at:
            yield Finding(("mounts", index, "path"), "would hide the whole file system", '"/"')
        elif mount.path and seen.setdefault(shown_at, index) != index:
            first = seen[shown_at]
            message = f"mounts[{first}] is shown at the same place"
            yield Finding(("mounts", index, "path"), message, shown(mount.path))


def _environment(spec: ApiSpec) -> Iterator[Finding]:
    yield from _reserved(spec.env, ("env",))
    for index, container in enumerate(spec.pod.containers if spec.pod else ()):
        yield from _reserved(container.env, ("pod", "containers", index, "env"))


def _reserved(env: Environment, path: Path) -> Iterator[Finding]:
    for key in env:
        for prefix in RESERVED_PREFIXES:
            if key.startswith(prefix):
                message = f"names that begin with {prefix} are set by Serai; choose another"
                yield Finding((*path, key), message, at_key=True)


def _size(spec: ApiSpec) -> Iterator[Finding]:
    if spec.predictor is not None and _levels(spec.predictor.config) > MOST_LEVELS:
        allowed = f"at most {MOST_LEVELS} levels"
        yield Finding(("predictor", "config"), "nested too deep", allowed=allowed)
        return  # its encoder has limits of its own
    size = len(codec.encode(spec))
    if size > MOST_SPEC_BYTES:
        allowed = f"at most {MOST_SPEC_BYTES} bytes; put data in a file beside the predictor"
        yield Finding((), "the spec is too large", f"{size} bytes as JSON", allowed)


def _levels(value: object) -> int:
    """Return how deep lists and mappings lie in each other, up to one more than is allowed."""
    count, level = 0, [value]
    while level and count <= MOST_LEVELS:
        nested = [one for one in level if isinstance(one, dict | list)]
        count += bool(nested)
        level = [x for one in nested for x in (one.values() if isinstance(one, dict) else one)]
    return count


RULES: tuple[Callable[[ApiSpec], Iterator[Finding]], ...] = (
    _endpoint,
    _one_of,
    _predictor,
    _pod,
    _compute,
    _timeouts,
    _autoscaling,
    _mounts,
    _nodes,
    _environment,
    _size,
)


def remarks(spec: ApiSpec) -> Iterator[Finding]:
    """Yield what is allowed but does less than it seems to."""
    for name in SET_FOR_EACH_REPLICA & spec.env.keys():
        yield Finding(("env", name), "has no effect: each replica is given its own")
    predictor = spec.predictor
    if predictor is not None and predictor.batch is not None:
        per_process = spec.concurrency.per_replica // predictor.processes
        if predictor.batch.max_size > per_process:
            message = (
                f"a process gets {per_process} requests at once, so a batch never holds"
                f" {predictor.batch.max_size}; raise `concurrency.per_replica`"
            )
            yield Finding(("predictor", "batch", "max_size"), message)


def embedded_findings(spec: ApiSpec) -> Iterator[Finding]:
    """Yield what `serai up` cannot run, though a cluster can."""
    if spec.pod is not None and len(spec.pod.containers) > 1:
        yield Finding(
            ("pod", "containers"),
            "`serai up` runs one container per replica; deploy this to a cluster, or put the"
            " programs in one image",
            str(len(spec.pod.containers)),
            "1",
        )


def embedded_remarks(spec: ApiSpec) -> Iterator[Finding]:
    """Yield what `serai up` accepts and does nothing with."""
    if spec.nodes != Nodes():
        yield Finding(("nodes",), "has no effect here: all replicas run on this machine")
