"""What a killed test run leaves of the engines is ended by the next one that starts them."""

import contextlib
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import psutil
import pytest

from tests.cluster.nomad import nomad
from tests.integration.nomad.test_client import sleeping
from tests.support.dockerd import IMAGE, dockerd
from tests.support.wait import until

pytestmark = pytest.mark.engines
SLEEPS = ["/usr/bin/sleep", "1000"]


@contextlib.contextmanager
def killed(run: Callable[[], None]) -> Iterator[int]:
    """Run something in a test run of its own that is killed before it can clean up.

    In the block it is dead and still has its number: no other test ends what it left.
    """
    child = os.fork()
    if child == 0:
        try:
            run()
        except BaseException:  # noqa: BLE001  # what is not found fails the test; this says why
            traceback.print_exc()
        finally:
            os.kill(os.getpid(), 9)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        yield child
    finally:
        os.waitpid(child, 0)


def users_of(folder: Path) -> list[psutil.Process]:
    """Return the processes that name a folder, by their command or their environment."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            said = [*one.cmdline(), *one.environ().values(), *(f.path for f in one.open_files())]
            if one.pid != os.getpid() and any(str(folder) in text for text in said):
                found.append(one)
    return found


def mounted(folder: Path) -> bool:
    return f" {folder}/" in Path("/proc/mounts").read_text()


@pytest.mark.parametrize("tasks_end", [False, True])
def test_of_nomad_no_task_and_no_mount_is_left(tmp_path: Path, tasks_end: bool) -> None:
    first = tmp_path / "first"

    def run() -> None:
        with nomad(first) as agent:
            agent.register(sleeping("left"))
            agent.exactly(1, lambda: agent.running("left"))
            os.kill(os.getpid(), 9)

    with killed(run):
        assert users_of(first) and mounted(first), "tasks outlive an agent by design"
        if tasks_end:
            for one in users_of(first):
                one.kill()
            until(lambda: not users_of(first))
            assert mounted(first)
    with nomad(tmp_path / "second"):
        until(lambda: not users_of(first) and not mounted(first))


@pytest.fixture
def near() -> Iterator[Path]:
    """Return a folder of a short name: dockerd's sockets have little room for theirs."""
    with tempfile.TemporaryDirectory(prefix="serai-") as folder:
        yield Path(folder)


def test_of_docker_no_container_and_no_bridge_is_left(near: Path) -> None:
    first, second = near / "1", near / "2"
    first.mkdir()
    second.mkdir()

    def run() -> None:
        with dockerd(first) as address:
            client = docker.DockerClient(base_url=address)
            client.containers.run(IMAGE, SLEEPS, volumes=["/usr:/usr:ro"], detach=True)
            os.kill(os.getpid(), 9)

    with killed(run) as owner:
        (bridge,) = Path("/sys/class/net").glob(f"serai{owner}x*")
        assert users_of(first), "nobody has ended it"
    with dockerd(second):
        assert not bridge.exists() and not mounted(first)
        until(lambda: not users_of(first))
