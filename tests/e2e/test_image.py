"""`serai image`: the predictors' image, and a deployed version as an image of its own."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.support.dockerd import dockerd
from tests.support.ports import free_port
from tests.support.predictor_image import PREDICTOR_IMAGE, import_image
from tests.support.serai import Serai, call, write_predictor
from tests.support.wait import until

pytestmark = pytest.mark.timeout(600)

CODE = """
import os

from names import GREETING

class Predictor:
    def __init__(self, config):
        self.config = config

    def predict(self, payload):
        return {"said": GREETING, "config": self.config, "text": os.environ["TEXT"],
                "user": os.getuid(), "file": __file__, "python": os.path.realpath("/proc/self/exe")}
"""
TEXT = 'a $HOME, a \\ and a "quote"'
SPEC = f"""\
  processes: 2
  config: {{"limit": 3, "text": "${{X}}"}}
env: {{TEXT: {json.dumps(TEXT)}, PYTHONPATH: src}}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dockerd(tmp_path_factory.mktemp("d")) as found:
        import_image(found)
        yield found


@pytest.fixture(scope="module")
def serai(shared: Serai) -> Serai:
    folder = write_predictor(shared.data.parent / "baked", CODE, SPEC, "baked")
    (folder / "src").mkdir()
    (folder / "src" / "names.py").write_text("GREETING = 'good day'\n")
    shared.deploy(folder)
    return shared


@pytest.fixture
def run(serai: Serai, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Runner":
    monkeypatch.setenv("DOCKER_HOST", address)
    return Runner(serai, str(tmp_path))


class Runner:
    """Runs `serai image …` against a dockerd of the tests."""

    def __init__(self, serai: Serai, cache: str) -> None:
        self.serai, self._cache = serai, cache

    def export(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        options = ("--base", PREDICTOR_IMAGE, "--cache-dir", self._cache)
        return self.serai.run("image", "export", *arguments, *options)

    def build(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.serai.run("image", "build", *arguments)


def test_an_exported_image_serves_alone(run: Runner, address: str) -> None:
    """With plain docker, no mounts and a read-only root; each process has a port."""
    made = run.export("baked", "--tag", "baked:7")
    assert made.returncode == 0, made.stderr
    assert "run it: docker run -p 8000:8000 baked:7" in made.stdout
    client = docker.DockerClient(base_url=address)
    ports = free_port(), free_port()
    with contextlib.closing(client):
        container = client.containers.run(
            "baked:7",
            detach=True,
            init=True,
            read_only=True,
            tmpfs={"/tmp": ""},
            environment={"PORT": "9000"},
            ports={"9000/tcp": ("127.0.0.1", ports[0]), "9001/tcp": ("127.0.0.1", ports[1])},
        )
        try:
            for port in ports:
                told = until(partial(asked, port), 30.0)
                assert told["said"] == "good day" and told["text"] == TEXT
                assert told["config"] == {"limit": 3, "text": "${X}"}
                assert told["user"] == 65534 and told["file"] == "/opt/serai/bundle/predictor.py"
                assert told["python"].startswith("/usr/bin/python3")
            container.reload()
            assert container.attrs["Mounts"] == []
            assert container.labels["serai.api"] == "baked"
            container.stop(timeout=20)
            assert container.wait()["StatusCode"] == 0
        finally:
            container.remove(force=True)


def asked(port: int) -> Any:
    """Return the answer, {} while there is none."""
    try:
        answer = call(f"http://127.0.0.1:{port}/", b"{}", {"Content-Type": "application/json"})
    except OSError:
        return {}
    return answer.json() if answer.status == 200 else {}


def test_what_cannot_be_exported_is_told(run: Runner) -> None:
    for arguments, words in (
        (("nobody", "--tag", "a:1"), "nobody"),
        (("baked", "--tag", "a"), "a has no tag; give one, such as a:1"),
        (("baked", "--tag", "a:latest"), "`latest` is pulled anew"),
        (
            ("baked", "--tag", "a:1", "--version", "v9-00000000"),
            "has not v9-00000000; its versions",
        ),
    ):
        refused = run.export(*arguments)
        assert refused.returncode in (2, 4) and words in refused.stderr, refused.stderr
    missing = run.serai.run("image", "export", "baked", "--tag", "a:1", "--base", "no-such:1")
    assert "there is no image no-such:1 here" in missing.stderr
    lacking = run.serai.run("image", "export", "baked", "--tag", "a:1", "--base", "serai-test:1")
    assert "serai-test:1 has no Python at /usr/bin/python3" in lacking.stderr


def test_the_image_is_built_from_the_dockerfile(run: Runner) -> None:
    """From a base that is here, since there is no registry; its steps install from Debian."""
    made = run.build("--base", PREDICTOR_IMAGE, "--tag", "again:1")
    assert made.returncode == 0, made.stderr
    assert "made again:1: Python 3.11 on linux-x86_64-glibc-" in made.stdout
    assert 'predictor_image = "again:1"' in made.stdout


def test_what_cannot_be_built_is_told(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, words in (
        (("--debootstrap", "--python", "3.12"), "Debian has no Python 3.12"),
        (("--debootstrap", "--base", "x:1"), "--base is for the Dockerfile"),
        (("--tag", "again"), "again has no tag"),
    ):
        refused = run.build(*arguments)
        assert refused.returncode == 2 and words in refused.stderr
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "/no/such/folder")
        lacking = run.build("--debootstrap")
        assert lacking.stderr == (
            "serai: debootstrap is missing; install it: sudo apt install debootstrap\n"
        )
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such.sock")
    away = run.build()
    assert away.returncode == 3 and "dockerd does not answer at unix:///no/such.sock" in away.stderr
    assert len(away.stderr.splitlines()) == 1
