"""The jobs that Nomad gets, kept whole, so that every change of one is seen.

Write them anew with `SERAI_GOLDEN=write pytest tests/golden/nomad` and read the difference: what
changes in a task's environment or command restarts the replicas of jobs that are built anew.
"""

import json
import os
from pathlib import Path

import msgspec
import pytest

from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.settings import JobSettings
from tests.unit.nomad.values import SHAPES, predictor

HERE = Path(__file__).parent
SETTINGS = JobSettings()


def same(name: str, job: dict[str, object]) -> None:
    path, text = HERE / f"{name}.json", json.dumps({"Job": job}, indent=2) + "\n"
    if os.environ.get("SERAI_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs from what is kept"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_job_is_what_it_was(shape: str) -> None:
    same(shape, job_of(SHAPES[shape](), [1, 2], SETTINGS))


@pytest.mark.parametrize("shape", ["predictor", "batching"])
def test_a_predictor_in_an_image(shape: str) -> None:
    settings = msgspec.structs.replace(SETTINGS, predictor_image="serai-predictor:{python}")
    same(f"{shape}-docker", job_of(SHAPES[shape](), [1], settings))


def test_a_predictor_in_a_root_of_its_own() -> None:
    settings = msgspec.structs.replace(SETTINGS, program_driver="exec")
    same("predictor-exec", job_of(predictor(), [1, 2], settings))
