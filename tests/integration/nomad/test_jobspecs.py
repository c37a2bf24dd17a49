"""The jobspecs that are shipped: the real Nomad takes each as it stands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.nomad import NomadAgent
from tests.cluster.nomad import nomad as own_nomad

pytestmark = pytest.mark.engines
JOBSPECS = sorted((Path(__file__).parents[3] / "jobspecs").glob("*.hcl"))


@pytest.fixture(scope="module")
def nomad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NomadAgent]:
    with own_nomad(tmp_path_factory.mktemp("nomad")) as agent:
        yield agent


@pytest.mark.parametrize("path", JOBSPECS, ids=lambda path: path.name)
def test_a_jobspec_is_valid(path: Path, nomad: NomadAgent) -> None:
    done = nomad.nomad_job("validate", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warnings" not in done.stdout, done.stdout


@pytest.mark.parametrize("path", JOBSPECS, ids=lambda path: path.name)
def test_a_jobspec_says_what_it_is_at_its_top(path: Path) -> None:
    comments = [line for line in path.read_text().partition("\n\n")[0].splitlines() if line]
    assert all(line.startswith("#") for line in comments)
    for part in ("# variables", "# ports:", "# on update:"):
        assert any(line.startswith(part) for line in comments), f"{path.name} lacks {part!r}"
