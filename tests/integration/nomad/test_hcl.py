"""What is written as HCL is to Nomad the same job as the JSON that it was made from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serai_scheduler.nomad.hcl import hcl_of
from serai_scheduler.nomad.job import as_handed_in
from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad

pytestmark = pytest.mark.engines
JOBS = sorted((Path(__file__).parents[2] / "golden" / "nomad").glob("*.json"))


@pytest.fixture(scope="module")
def nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadAgent]:
    with own_nomad(tmp_path_factory.mktemp("nomad")) as agent:
        yield agent


def differences(wanted: Any, found: Any, at: str = "") -> list[str]:
    """Return where a job differs in what it says; what it leaves out may have any default."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            d for key in wanted for d in differences(wanted[key], found.get(key), f"{at}.{key}")
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [d for n, (one, other) in pairs for d in differences(one, other, f"{at}[{n}]")]
    return [] if wanted == found else [f"{at}: {wanted!r} became {found!r}"]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_hcl_is_the_same_job(path: Path, nomad: NomadAgent, tmp_path: Path) -> None:
    job = json.loads(path.read_text())["Job"]
    text = hcl_of(job)
    found = nomad.call("POST", "/jobs/parse", {"JobHCL": text, "Canonicalize": True})
    assert not differences(job, found)
    file = tmp_path / "job.nomad.hcl"
    file.write_text(text)
    done = nomad.nomad_job("validate", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_what_nomad_holds_is_written_as_the_same_job(path: Path, nomad: NomadAgent) -> None:
    """To Nomad nothing in it is another, so that it would not touch what runs."""
    job = json.loads(path.read_text())["Job"]
    nomad.register(job)
    try:
        held = as_handed_in(nomad.call("GET", f"/job/{job['ID']}"))
        asked = {"JobHCL": hcl_of(held), "Canonicalize": True}
        for same in (held, nomad.call("POST", "/jobs/parse", asked)):
            plan = nomad.call("POST", f"/job/{job['ID']}/plan", {"Job": same, "Diff": True})
            assert plan["Diff"]["Type"] == "None", plan["Diff"]
        held["Priority"] += 1
        plan = nomad.call("POST", f"/job/{job['ID']}/plan", {"Job": held, "Diff": True})
        assert plan["Diff"]["Type"] == "Edited"
    finally:
        nomad.call("DELETE", f"/job/{job['ID']}?purge=true")


def test_a_difference_would_be_seen(nomad: NomadAgent) -> None:
    job = json.loads(JOBS[0].read_text())["Job"]
    text = hcl_of(job).replace("priority = 50", "priority = 51")
    found = nomad.call("POST", "/jobs/parse", {"JobHCL": text, "Canonicalize": True})
    assert differences(job, found) == [".Priority: 50 became 51"]
