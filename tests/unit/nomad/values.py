"""Versions of each shape that a job can have."""

import msgspec

from serai import wire
from serai.model import Version, VersionContent, digest_of
from serai.spec.types import (
    Batch,
    Compute,
    Container,
    Mount,
    Nodes,
    Pod,
    Predictor,
    PreferredNodes,
    Readiness,
)
from serai.units import Cpu, Duration, Size

BUNDLE, LOCK, RUNTIME = (digest_of(text.encode()) for text in ("bundle", "lock", "runtime"))


def version(content: VersionContent, api: str = "iris", number: int = 7) -> Version:
    return Version(
        api=api,
        number=number,
        digest=wire.digest(content),
        content=content,
        created_at_s=1_000_000.0,
    )


def _content(predictor: Predictor | None = None, pod: Pod | None = None) -> VersionContent:
    made = predictor is not None
    return VersionContent(
        predictor=predictor,
        pod=pod,
        bundle=BUNDLE if made else "",
        lock=LOCK if made else "",
        runtime=RUNTIME if made else "",
        python="3.11" if made else "",
        compute=Compute(cpu=Cpu(200)),
        env={},
        concurrency_per_replica=1,
        readiness=Readiness(),
        mounts=(),
    )


def predictor() -> Version:
    plain = _content(predictor=Predictor(path="predictor.py", config={"threshold": 0.5}))
    return version(msgspec.structs.replace(plain, env={"PYTHONPATH": "src", "MODEL": "small"}))


def batching() -> Version:
    """Return a predictor with two processes that batches, and texts that Nomad must not read."""
    one = Predictor(
        path="serve/predictor.py",
        config={"prompt": "{{ text }} ${HOME}", "labels": {"0": {"name": "no"}}},
        processes=2,
        threads=4,
        batch=Batch(max_size=8, max_wait_ms=2.5),
    )
    return version(
        msgspec.structs.replace(
            _content(predictor=one),
            concurrency_per_replica=33,
            compute=Compute(cpu=Cpu(1500), mem=Size(2 * 2**30)),
            readiness=Readiness(period=Duration(0.5), failures=5),
        ),
        api="text-large",
    )


def program(*command: str) -> Version:
    command = command or ("python3", "-m", "http.server", "${PORT}")
    plain = _content(pod=Pod(command=command))
    ready = Readiness(path="/", period=Duration(1), failures=3)
    return version(msgspec.structs.replace(plain, readiness=ready), api="files")


def program_with_bundle() -> Version:
    plain = _content(pod=Pod(command=("./serve.sh",)))
    return version(msgspec.structs.replace(plain, bundle=BUNDLE), api="files")


def containers(*specs: Container) -> Version:
    specs = specs or (
        Container(image="registry.example/team/front:1.2", name="front", args=("--port", "8000")),
        Container(
            image="registry.example/team/model:3",
            command=("/bin/model",),
            env={"MODEL": "large"},
        ),
    )
    plain = _content(pod=Pod(port=8000, containers=specs))
    return version(
        msgspec.structs.replace(
            plain, compute=Compute(cpu=Cpu(1001), mem=Size(2**30)), env={"MODEL": "small"}
        ),
        api="two",
    )


def mounting() -> Version:
    content = containers(Container(image="registry.example/team/model:3")).content
    return version(
        msgspec.structs.replace(
            content,
            compute=Compute(cpu=Cpu(500), mem=Size(2**30), shm=Size(2**28), gpu=1),
            mounts=(
                Mount(host="/srv/models", path="/models"),
                Mount(host="/srv/scratch", path="/scratch", read_only=False),
            ),
        ),
        api="mounts",
    )


def placed() -> Version:
    """Return a program that asks for nodes of a kind, and for some of them rather than others."""
    nodes = Nodes(
        class_="gpu-large",
        pool="all",
        meta={"rack": "r1", "disk.kind": "nvme"},
        prefer=PreferredNodes(class_="new", meta={"power": "cheap"}),
    )
    content = msgspec.structs.replace(program().content, nodes=nodes)
    return version(content, api="placed")


SHAPES = {
    "predictor": predictor,
    "batching": batching,
    "program": program,
    "program-with-bundle": program_with_bundle,
    "containers": containers,
    "mounts": mounting,
    "placed": placed,
}
