"""What users read about their spec files, kept as text: run this file to write it anew, then read it."""

import json
from pathlib import Path

import pytest

from serai.spec import LoadedSpecs, SpecError, load_text
from serai.spec.codec import to_builtins

HERE = Path(__file__).parent
BAD = sorted((HERE / "bad").glob("*.yaml"))
GOOD = sorted((HERE / "good").glob("*.yaml"))


def bad_text(file: Path) -> str:
    with pytest.raises(SpecError) as raised:
        load_text(file.read_text(), file.name)
    assert "\n".join(str(problem) for problem in raised.value.problems) == str(raised.value)
    return f"{raised.value}\n"


def good_text(file: Path) -> str:
    loaded = load_text(file.read_text(), file.name)
    assert isinstance(loaded, LoadedSpecs)
    specs = [json.dumps(to_builtins(spec), indent=1) for spec in loaded.apis]
    return "\n".join([*specs, *(str(note) for note in loaded.notes)]) + "\n"


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_problems_read_as_they_did(file: Path) -> None:
    assert bad_text(file) == file.with_suffix(".txt").read_text()


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_good_files_mean_what_they_did(file: Path) -> None:
    assert good_text(file) == file.with_suffix(".txt").read_text()


def test_there_are_enough_files() -> None:
    assert len(BAD) >= 30
    assert len(GOOD) >= 5


if __name__ == "__main__":
    for one in BAD:
        one.with_suffix(".txt").write_text(bad_text(one))
    for one in GOOD:
        one.with_suffix(".txt").write_text(good_text(one))
