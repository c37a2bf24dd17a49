"""Programs by Nomad's `exec` driver: in a root, a group and name spaces of their own."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.settings import JobSettings
from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad
from tests.support.static_model import build
from tests.unit.nomad.values import program

pytestmark = pytest.mark.engines

SETTINGS = JobSettings(default_memory_mib=64, leave_s=0.2, program_driver="exec")
SHELL, USERS = "/bin/sh", ("/etc/passwd", "/etc/group")


def chroot(model: Path) -> str:
    """Return what a task sees of the machine: the model, and a shell with what that is linked to.

    Else Nomad puts a copy of the machine's programs into the root of each task.
    """
    linked = subprocess.run(["ldd", SHELL], capture_output=True, text=True, check=True).stdout
    needed = [SHELL, *USERS, *(word for word in linked.split() if word.startswith("/"))]
    shown = {os.path.realpath(path): path for path in needed} | {str(model): "/bin/model"}
    return "chroot_env " + json.dumps(shown).replace(": ", " = ")


@pytest.fixture
def nomad(tmp_path: Path) -> Iterator[NomadAgent]:
    with own_nomad(tmp_path / "nomad", client=chroot(build(tmp_path))) as agent:
        (node,) = agent.call("GET", "/nodes")
        driver = node["Drivers"]["exec"]
        if not driver["Healthy"] and not os.environ.get("CI"):
            pytest.skip(f"exec does not run here: {driver['HealthDescription']}")
        yield agent


def test_a_program_serves_in_a_root_of_its_own(nomad: NomadAgent) -> None:
    job = job_of(program("/bin/model"), [1], SETTINGS, drain_s=5)
    nomad.register(job)
    try:
        (service,) = nomad.exactly(1, lambda: nomad.passing("files"))
        (one,) = nomad.exactly(1, lambda: nomad.running(job["ID"]))
        with urlopen(f"http://127.0.0.1:{service['Port']}/", timeout=10) as answer:
            assert answer.read() == b"model"
        (process,) = [
            path.parent
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if path.read_bytes().startswith(b"/bin/model\0")
        ]
        seen = {path.name for path in (process / "root" / "bin").iterdir()}
        assert seen == {"sh", "model"}, "it sees no more of the node than it is shown"
        assert one["TaskStates"]["replica"]["Restarts"] == 0
    finally:
        nomad.purge(job["ID"])
