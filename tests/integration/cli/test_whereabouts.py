"""Which data folder the command line talks to."""

from pathlib import Path

import pytest

from serai_cli.whereabouts import ENDPOINT_FILE, folder_in_use, forget, remember, usual_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERAI_DATA_DIR", raising=False)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def running(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / ENDPOINT_FILE).write_text("{}")
    return folder


def test_without_any_it_is_the_usual_one() -> None:
    assert folder_in_use() == usual_folder()


def test_one_elsewhere_is_found_until_it_ends(tmp_path: Path) -> None:
    other = running(tmp_path / "other")
    remember(other)
    assert folder_in_use() == other
    forget(tmp_path / "third")
    assert folder_in_use() == other
    forget(other)
    assert folder_in_use() == usual_folder()


def test_the_usual_one_comes_first_where_one_runs(tmp_path: Path) -> None:
    remember(running(tmp_path / "other"))
    usual = running(usual_folder())
    assert folder_in_use() == usual


def test_a_note_of_a_folder_that_is_gone_or_no_path_is_not_followed(tmp_path: Path) -> None:
    remember(tmp_path / "gone")
    assert folder_in_use() == usual_folder()
    remember(Path("not/absolute"))
    assert folder_in_use() == usual_folder()


def test_a_folder_told_by_the_environment_is_the_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(running(tmp_path / "other"))
    monkeypatch.setenv("SERAI_DATA_DIR", str(tmp_path / "told"))
    assert folder_in_use() == tmp_path / "told"
