"""Jobs on the real Nomad and Consul: accepted, run, listed, scaled in place, ended."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import msgspec
import pytest

from serai.model import Version
from serai_scheduler.nomad.hcl import hcl_of
from serai_scheduler.nomad.job import job_of, with_replicas
from serai_scheduler.nomad.names import parse_id
from serai_scheduler.nomad.places import places_of
from serai_scheduler.nomad.settings import JobSettings
from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad
from tests.support.wait import until
from tests.unit.nomad.values import SHAPES, batching, program

pytestmark = pytest.mark.engines

SETTINGS = JobSettings(default_memory_mib=64, leave_s=0.2)
TEXTS = (
    "${PORT}",
    "$${PORT}",
    "$$${PORT}",
    "${HOME:-/root}",
    "%{ if true }",
    "%%{x}",
    "{{ env }}",
    "$(id)",
    "$PORT",
    "quotes \" and ' and \\ and \n",
    "",
    "ä €",
)
PREDICTOR = """
class Predictor:
    def __init__(self, config):
        self.config = config

    def predict(self, payload):
        return [{"given": one, "config": self.config} for one in payload]
"""


@pytest.fixture(scope="module")
def nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadAgent]:
    """Return a Nomad, shared by the tests of this file; nothing of them is left at the end."""
    folder = tmp_path_factory.mktemp("nomad")
    with own_nomad(folder) as agent:
        yield agent
    assert str(folder) not in Path("/proc/mounts").read_text()
    assert not _users_of(folder)


def _users_of(folder: Path) -> list[str]:
    """Return the processes, other than this one, that have a file below a folder open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            used = os.readlink(link).startswith(f"{folder}/")
        except OSError:
            continue
        found += [str(link)] if used and link.parts[2] != str(os.getpid()) else []
    return found


@pytest.mark.parametrize("driver", ["raw_exec", "exec", "docker"])
@pytest.mark.parametrize("shape", SHAPES)
def test_nomad_accepts_a_job(shape: str, driver: str, nomad: NomadAgent, tmp_path: Path) -> None:
    image = "serai-predictor:1" if driver == "docker" else ""
    program_driver = "exec" if driver == "exec" else "raw_exec"
    settings = msgspec.structs.replace(
        SETTINGS, program_driver=program_driver, predictor_image=image
    )
    file = tmp_path / "job.json"
    file.write_text(json.dumps({"Job": job_of(SHAPES[shape](), [1, 2], settings)}))
    ran = nomad.nomad_job("validate", "-json", str(file))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "warning" not in ran.stdout.lower(), ran.stdout


def test_a_program_serves_scales_in_place_and_ends(nomad: NomadAgent) -> None:
    """A second replica leaves the first one alone, which can go before it; nothing is left."""
    command = 'echo "$SERAI_REPLICA" > me; exec python3 -m http.server --bind 127.0.0.1 ${PORT}'
    version = program("sh", "-c", command)
    job = job_of(version, [1], SETTINGS)
    nomad.register(job)
    try:
        (service,) = nomad.exactly(1, lambda: nomad.passing("files"))
        (first,) = nomad.exactly(1, lambda: nomad.running(job["ID"]))
        name = f"files.{version.name}.1"
        assert service["Meta"]["replica"] == name == _get(service["Port"], "/me").strip()
        assert service["Meta"]["version"] == version.name and service["Meta"]["capacity"] == "1"
        with pytest.raises(HTTPError) as refused:
            nomad.register(job)
        assert "job already exists" in str(refused.value.__notes__)

        stored = nomad.call("GET", f"/job/{job['ID']}")
        nomad.register(with_replicas(stored, [2]), stored["JobModifyIndex"])
        until(lambda: len(nomad.passing("files")) == 2, 20.0)
        both = nomad.exactly(2, lambda: nomad.running(job["ID"]))
        kept = {one["ID"]: one["TaskStates"]["replica"] for one in both}
        assert kept[first["ID"]]["Restarts"] == 0
        assert nomad.call("GET", f"/job/{job['ID']}/deployments") == []
        again = nomad.call("GET", f"/job/{job['ID']}")
        nomad.register(
            with_replicas(job_of(version, [1, 2], SETTINGS, drain_s=30), [], [1]),
            again["JobModifyIndex"],
        )
        (left,) = nomad.exactly(1, lambda: nomad.running(job["ID"]))
        assert left["ID"] != first["ID"] and left["TaskStates"]["replica"]["Restarts"] == 0
        (service,) = nomad.passing("files")
        assert service["Meta"]["replica"] == f"files.{version.name}.2"
        last = nomad.call("GET", f"/job/{job['ID']}")
        nomad.register(with_replicas(last, [], [2]), last["JobModifyIndex"])
        nomad.exactly(0, lambda: nomad.running(job["ID"]))
        ended = nomad.call("GET", f"/job/{job['ID']}")
        assert ended["Stop"] and ended["CreateIndex"] == last["CreateIndex"]
        nomad.register(job_of(version, [3], SETTINGS), ended["JobModifyIndex"])
        nomad.exactly(1, lambda: nomad.passing("files"))
    finally:
        nomad.purge(job["ID"])
    assert nomad.consul("/health/service/serai-api-files") == []


@pytest.mark.parametrize("form", ["json", "hcl"])
def test_a_job_started_by_hand_is_the_one_that_we_would_start(
    form: str, nomad: NomadAgent, tmp_path: Path
) -> None:
    job = job_of(program("sh", "-c", "exec sleep 600"), [1], SETTINGS)
    file = tmp_path / f"job.{form}"
    file.write_text(json.dumps({"Job": job}) if form == "json" else hcl_of(job))
    try:
        ran = nomad.nomad_job("run", *(["-json"] if form == "json" else []), "-detach", str(file))
        assert ran.returncode == 0, ran.stdout + ran.stderr
        (before,) = nomad.exactly(1, lambda: nomad.running(job["ID"]))
        held = nomad.call("GET", f"/job/{job['ID']}")
        assert parse_id(SETTINGS.prefix, held["ID"]) is not None
        plan = nomad.call("POST", f"/job/{job['ID']}/plan", {"Job": job, "Diff": True})
        assert plan["Diff"]["Type"] == "None"
        nomad.register(job, held["JobModifyIndex"])
        nomad.register(with_replicas(held, [1]), held["JobModifyIndex"])
        after = nomad.call("GET", f"/job/{job['ID']}")
        assert after["Version"] == held["Version"] == 0
        assert [one["ID"] for one in nomad.running(job["ID"])] == [before["ID"]]
    finally:
        nomad.purge(job["ID"])


def test_texts_reach_a_program_as_they_were_written(nomad: NomadAgent, tmp_path: Path) -> None:
    """Nomad reads commands as templates, and must find none in what users write."""
    told = tmp_path / "told.json"
    code = f"import json, os, sys, time; out = (sys.argv[1:], os.environ['TEXT'], os.getcwd()); \
f = open('{told}.new', 'w'); json.dump(out, f); f.close(); os.rename('{told}.new', '{told}'); \
time.sleep(600)"
    command = (sys.executable, "-c", code, *TEXTS)
    version = program(*command)
    content = msgspec.structs.replace(version.content, env={"TEXT": "${NO_SUCH} {{ a }} %{if}"})
    job = job_of(msgspec.structs.replace(version, content=content), [1], SETTINGS)
    nomad.register(job)
    try:
        until(told.exists)
        arguments, text, folder = json.loads(told.read_text())
        assert tuple(arguments) == TEXTS and text == "${NO_SUCH} {{ a }} %{if}"
        assert folder.endswith("/replica/local")
    finally:
        nomad.purge(job["ID"])


def test_a_replica_leaves_consul_before_it_is_told_to_end(
    nomad: NomadAgent, tmp_path: Path
) -> None:
    """What it does then may take longer than Nomad's usual five seconds."""
    ended = tmp_path / "ended"
    command = f"""
        python3 -m http.server --bind 127.0.0.1 ${{PORT}} &
        trap 'date +%s.%N > {ended}.told; sleep 6; kill $!; date +%s.%N > {ended}; exit' TERM
        while :; do sleep 0.05; done"""
    settings = msgspec.structs.replace(SETTINGS, leave_s=1.0)
    job = job_of(program("sh", "-c", command), [1], settings, drain_s=10)
    nomad.register(job)
    try:
        nomad.exactly(1, lambda: nomad.passing("files"))
        nomad.call("DELETE", f"/job/{job['ID']}")
        nomad.exactly(0, lambda: nomad.passing("files"))
        assert not Path(f"{ended}.told").exists()
        until(lambda: ended.exists() and bool(ended.read_text().strip()), 15.0)
        took_s = float(ended.read_text()) - float(Path(f"{ended}.told").read_text())
        assert took_s >= 6
    finally:
        nomad.purge(job["ID"])


def test_a_predictor_waits_for_its_parts_and_serves(nomad: NomadAgent, tmp_path: Path) -> None:
    """The node's agent is played by this test: Nomad's task sees its markers and starts."""
    version = batching()
    settings = msgspec.structs.replace(
        SETTINGS, cache_dir=str(tmp_path / "cache"), mhz_per_core=1000
    )
    version = _with_less_memory(version)
    job = job_of(version, [1], settings)
    nomad.register(job)
    try:
        (one,) = nomad.exactly(1, lambda: nomad.running(job["ID"]))
        said = until(lambda: nomad.said(one["ID"], "prepare"), 10.0)
        places = places_of(version, settings)
        assert said.startswith("waiting until this node's agent has made " + places.markers[0])
        _make(Path(places.bundle) / "serve" / "predictor.py", PREDICTOR)
        python = Path(places.environment) / "bin" / "python"
        _make(python, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        for marker in places.markers:
            _make(Path(marker), "")
        found = nomad.exactly(2, lambda: nomad.passing("text-large"))
        assert [one["Meta"]["capacity"] for one in found] in (["17", "16"], ["16", "17"])
        name = f"text-large.{version.name}.1"
        assert [one.id for one in nomad.servers("text-large")] == [f"{name}.0", f"{name}.1"]
        assert {server.host for server in nomad.servers("text-large")} == {"127.0.0.1"}
        for service in found:
            answer = json.loads(_get(service["Port"], "/", b'{"text": "hello"}'))
            assert answer["given"] == {"text": "hello"}
            assert version.content.predictor is not None
            assert answer["config"] == version.content.predictor.config
    finally:
        nomad.purge(job["ID"])
    assert nomad.consul("/health/service/serai-api-text-large") == []


def test_a_predictor_whose_parts_never_come_says_which(nomad: NomadAgent, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(
        SETTINGS, cache_dir=str(tmp_path / "cache"), prepare_limit_s=1
    )
    version = _with_less_memory(batching())
    job = job_of(version, [1], settings)
    nomad.register(job)
    try:
        ended = until(
            lambda: [a for a in nomad.allocations(job["ID"]) if a["ClientStatus"] == "failed"], 20.0
        )
        said = nomad.said(ended[0]["ID"], "prepare")
        marker = places_of(version, settings).markers[0]
        assert f"gave up after 1 s: this node's agent has not made {marker}" in said
        assert ended[0]["TaskStates"]["replica"]["StartedAt"] is None
    finally:
        nomad.purge(job["ID"])


def _with_less_memory(version: Version) -> Version:
    content = msgspec.structs.replace(
        version.content,
        compute=msgspec.structs.replace(version.content.compute, mem=None),
    )
    return msgspec.structs.replace(version, content=content)


def _make(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _get(port: int, path: str, body: bytes | None = None) -> str:
    request = Request(
        f"http://127.0.0.1:{port}{path}", data=body, headers={"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=10) as answer:
        return str(answer.read(), errors="replace")
