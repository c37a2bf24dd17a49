"""Which data folder the command line talks to."""

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from serai_cli.whereabouts import (
    ENDPOINT_FILE,
    LOCK_FILE,
    folder_in_use,
    forget,
    remember,
    usual_folder,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERAI_DATA_DIR", raising=False)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture
def locks() -> Iterator[list[IO[str]]]:
    held: list[IO[str]] = []
    yield held
    for lock in held:
        lock.close()


def crashed(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / ENDPOINT_FILE).write_text("{}")
    return folder


def running(folder: Path, locks: list[IO[str]]) -> Path:
    lock = (crashed(folder) / LOCK_FILE).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    locks.append(lock)
    return folder


def test_without_any_it_is_the_usual_one() -> None:
    assert folder_in_use() == usual_folder()


def test_one_elsewhere_is_found_until_it_ends(tmp_path: Path, locks: list[IO[str]]) -> None:
    other = running(tmp_path / "other", locks)
    remember(other)
    assert folder_in_use() == other
    forget(tmp_path / "third")
    assert folder_in_use() == other
    forget(other)
    assert folder_in_use() == usual_folder()


def test_the_usual_one_comes_first_where_one_runs(tmp_path: Path, locks: list[IO[str]]) -> None:
    remember(running(tmp_path / "other", locks))
    usual = running(usual_folder(), locks)
    assert folder_in_use() == usual


def test_one_that_crashed_hides_none_that_runs(tmp_path: Path, locks: list[IO[str]]) -> None:
    crashed(usual_folder())
    other = running(tmp_path / "other", locks)
    remember(other)
    assert folder_in_use() == other
    locks.pop().close()
    assert folder_in_use() == usual_folder(), "both have crashed"


def test_a_note_of_a_folder_that_is_gone_or_no_path_is_not_followed(tmp_path: Path) -> None:
    remember(tmp_path / "gone")
    assert folder_in_use() == usual_folder()
    remember(Path("not/absolute"))
    assert folder_in_use() == usual_folder()


def test_a_folder_told_by_the_environment_is_the_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(crashed(tmp_path / "other"))
    monkeypatch.setenv("SERAI_DATA_DIR", str(tmp_path / "told"))
    assert folder_in_use() == tmp_path / "told"
