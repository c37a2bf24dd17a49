"""Command line, environment and servers of a replica."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serai.errors import ConfigError
from serai.model import Version, VersionContent
from serai.sharing import shares
from serai.spec.types import Batch, Compute, Pod, Predictor, Readiness
from serai_agent.local.command import launch_of, servers
from serai_agent.local.folder import Launch, Order, ReplicaFolder
from serai_agent.local.place import Place
from serai_agent.local.settings import LocalSettings

OWN = {
    "PATH": "/mine",
    "HOME": "/root",
    "SECRET": "x",
    "TZ": "UTC",
    "CUDA_VISIBLE_DEVICES": "1,2",
    "NVIDIA_VISIBLE_DEVICES": "all",
}


def order(
    predictor: Predictor | None = None, pod: Pod | None = None, gpu: int = 0, **env: str
) -> Order:
    content = VersionContent(
        predictor=predictor,
        pod=pod,
        bundle="",
        lock="",
        runtime="",
        python="3.11",
        compute=Compute(gpu=gpu),
        env=env,
        concurrency_per_replica=8,
        readiness=Readiness(),
        mounts=(),
    )
    version = Version(api="a", number=3, digest="f" * 64, content=content, created_at_s=0.0)
    return Order(replica="a-1", version=version, created_at_s=0.0)


def launch(wanted: Order, ports: tuple[int, ...] = (9000,)) -> Launch:
    place = Place(environment=Path("/env"), bundle=Path("/bundle"))
    folder = ReplicaFolder(Path("/replicas/a-1"))
    return launch_of(wanted, place, folder, ports, LocalSettings(), OWN)


@given(st.integers(1, 30_000), st.integers(1, 64))
def test_shares_are_even_and_their_sum_is_exact(total: int, parts: int) -> None:
    found = shares(total, parts)
    assert len(found) == parts and sum(found) == max(total, parts)
    assert max(found) - min(found) <= 1


def test_each_process_is_a_server_with_its_share() -> None:
    wanted = order(predictor=Predictor(path="p.py", processes=3))
    found = servers(wanted, "127.0.0.1", (1, 2, 3))
    assert [(s.id, s.port, s.capacity) for s in found] == [
        ("a-1.0", 1, 3),
        ("a-1.1", 2, 3),
        ("a-1.2", 3, 2),
    ]


def test_the_runtime_is_told_everything() -> None:
    predictor = Predictor(path="src/p.py", processes=2, threads=4, batch=Batch(max_size=9))
    text = " ".join(launch(order(predictor=predictor), (9000, 9001)).command)
    assert text.startswith("/env/bin/python -m serai_runtime /bundle/src/p.py ")
    for part in (
        "--port 9000,9001 ",
        "--threads 4 ",
        "--concurrency 4,4 ",
        "--batch-max-size 9 ",
        "--batch-max-wait-ms 5",
        "--project-dir /bundle ",
        "--replica a-1 ",
        "--version-name v3-ffffffff ",
    ):
        assert part in text


def test_a_program_runs_in_its_bundle_with_a_port() -> None:
    found = launch(order(pod=Pod(command=("./serve", "-x")), GREETING="hi"))
    assert found.command == ("./serve", "-x") and found.cwd == "/bundle"
    assert found.env["PORT"] == "9000" and found.env["GREETING"] == "hi"


def test_the_environment_is_clean_and_its_names_of_serai_cannot_be_taken() -> None:
    pod = Pod(command=("x",))
    found = launch(order(pod=pod, PORT="1", TMPDIR="/tmp", SERAI_API="other", HOME="/h")).env
    assert "SECRET" not in found and found["TZ"] == "UTC"
    assert found["PATH"].startswith("/env/bin:/usr/local/sbin:")
    assert (found["PORT"], found["SERAI_API"], found["HOME"]) == ("9000", "a", "/h")
    assert found["TMPDIR"] == "/replicas/a-1/tmp"


def test_a_python_path_lies_in_the_bundle() -> None:
    found = launch(order(predictor=Predictor(path="p.py"), PYTHONPATH="lib:/opt/x:")).env
    assert found["PYTHONPATH"] == "/bundle/lib:/opt/x"


def test_gpus_are_hidden_unless_asked_for() -> None:
    pod = Pod(command=("x",))
    hidden = launch(order(pod=pod)).env
    assert hidden["CUDA_VISIBLE_DEVICES"] == "" and "NVIDIA_VISIBLE_DEVICES" not in hidden
    shown = launch(order(pod=pod, gpu=1)).env
    assert shown["CUDA_VISIBLE_DEVICES"] == "1,2" and shown["NVIDIA_VISIBLE_DEVICES"] == "all"


def test_a_version_with_nothing_to_run_is_an_error() -> None:
    with pytest.raises(ConfigError, match="neither"):
        launch(order(pod=Pod()))
