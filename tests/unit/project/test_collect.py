"""Which files belong to a project."""

import os
import socket
from pathlib import Path

import pytest

from serai.bundle import MAX_FILE_BYTES
from serai.errors import ConfigError
from serai_cli.embedded.folder import DataFolder
from serai_cli.project.collect import MAX_DEPTH, MAX_IGNORE_BYTES, collect


def make(root: Path, **files: str) -> None:
    for name, content in files.items():
        write(root, name, content)


def write(root: Path, path: str, content: str = "x") -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content)
    return target


def paths(root: Path) -> list[str]:
    return [file.path for file in collect(root).files]


def test_takes_files_sorted_with_sizes_and_the_executable_bit(tmp_path: Path) -> None:
    write(tmp_path, "predictor.py", "class Predictor: ...")
    write(tmp_path, "data/b.bin", "12345")
    write(tmp_path, "run.sh").chmod(0o755)
    found = {file.path: (file.size_bytes, file.executable) for file in collect(tmp_path).files}
    assert found == {"data/b.bin": (5, False), "predictor.py": (20, False), "run.sh": (1, True)}
    assert list(found) == sorted(found)
    assert collect(tmp_path).total_bytes == 26


def test_leaves_out_a_data_folder_of_serai_with_its_token(tmp_path: Path) -> None:
    write(tmp_path, "predictor.py")
    data = DataFolder(tmp_path / "data")
    data.hold()
    assert data.token()
    data.release()
    assert paths(tmp_path) == ["predictor.py"]


def test_a_first_start_on_a_full_disk_leaves_no_token_in_bundles_later(tmp_path: Path) -> None:
    write(tmp_path, "predictor.py")
    write(tmp_path, "data/.gitignore.new", "")  # what a full disk left of the rules
    data = DataFolder(tmp_path / "data")
    data.lock()  # as `serai down` does
    data.release()
    data.hold()
    assert data.token()
    data.release()
    assert paths(tmp_path) == ["predictor.py"]


def test_a_data_folder_that_held_something_gets_no_rules(tmp_path: Path) -> None:
    write(tmp_path, "predictor.py")
    data = DataFolder(tmp_path)
    data.hold()
    data.release()
    assert not (tmp_path / ".gitignore").exists()


def test_leaves_out_what_never_belongs_to_it(tmp_path: Path) -> None:
    for path in (
        *(".git/config", ".venv/bin/python", "__pycache__/a.pyc", "a.pyc", "x/__pycache__/b.txt"),
        *(".env", ".hidden/file", "serai.yaml", "cortex.yaml", "settings.yaml", "kept.py"),
        "x/serai.yaml",
    ):
        write(tmp_path, path)
    found = collect(tmp_path, leave_out=["settings.yaml"])
    assert [file.path for file in found.files] == ["kept.py", "x/serai.yaml"]


def test_a_dot_file_is_taken_when_it_is_named(tmp_path: Path) -> None:
    for path in (".env", ".config/a.json", ".config/b.json", ".other", ".git/x", "a.py"):
        write(tmp_path, path)
    write(tmp_path, ".gitignore", "!.other\n")
    write(tmp_path, ".seraiignore", "!.env\n!.config/\nb.json\n")
    assert paths(tmp_path) == [".config/a.json", ".env", "a.py"]


def test_the_own_ignore_file_overrides_those_of_git_and_cortex(tmp_path: Path) -> None:
    for path in ("weights.bin", "notes.md", "data.csv", "sub/weights.bin"):
        write(tmp_path, path)
    write(tmp_path, ".gitignore", "*.bin\n")
    write(tmp_path, ".cortexignore", "*.csv\nnotes.md\n")
    write(tmp_path, ".seraiignore", "!/weights.bin\n")
    assert paths(tmp_path) == ["weights.bin"]


def test_deeper_rules_override_and_reach_no_higher(tmp_path: Path) -> None:
    for path in ("a.log", "sub/a.log", "sub/b.tmp", "b.tmp"):
        write(tmp_path, path)
    write(tmp_path, ".gitignore", "*.log\n")
    write(tmp_path, "sub/.gitignore", "!a.log\n*.tmp\n")
    assert paths(tmp_path) == ["b.tmp", "sub/a.log"]


def test_links_inside_are_taken_as_what_they_lead_to(tmp_path: Path) -> None:
    write(tmp_path, "models/v1/weights", "1234")
    (tmp_path / "current").symlink_to("models/v1")
    (tmp_path / "weights").symlink_to(tmp_path / "models/v1/weights")
    found = {file.path: file.size_bytes for file in collect(tmp_path).files}
    assert found == {"current/weights": 4, "models/v1/weights": 4, "weights": 4}


def test_links_that_lead_to_each_other_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ConfigError, match="the link a "):
        collect(tmp_path)
    write(tmp_path, ".seraiignore", "a\nb\n")
    assert paths(tmp_path) == []


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "/", ".."])
def test_a_link_that_leads_out_is_named(tmp_path: Path, target: str) -> None:
    write(tmp_path, "outside")
    root = tmp_path / "project"
    write(root, "sub/a.py")
    (root / "sub/escape").symlink_to(target if target[0] == "/" else f"../{target}")
    with pytest.raises(ConfigError, match=r"link sub/escape leads out of the project"):
        collect(root)
    write(root, ".seraiignore", "escape\n")
    assert paths(root) == ["sub/a.py"]


def test_a_sibling_with_the_same_beginning_is_outside(tmp_path: Path) -> None:
    write(tmp_path, "project-secret/key")
    (tmp_path / "project").mkdir()
    (tmp_path / "project/key").symlink_to("../project-secret/key")
    with pytest.raises(ConfigError, match="leads out"):
        collect(tmp_path / "project")


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to("never-there")
    with pytest.raises(ConfigError, match=r"link gone leads nowhere \(never-there\)"):
        collect(tmp_path)


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_a_link_to_a_folder_that_holds_it_is_a_loop(tmp_path: Path, target: str) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/loop").symlink_to(target)
    with pytest.raises(ConfigError, match="lies in itself"):
        collect(tmp_path)


def test_pipes_and_sockets_are_left_out_with_a_note(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
        found = collect(tmp_path)
    assert [file.path for file in found.files] == ["a.py"]
    assert len(found.notes) == 2 and "pipe" in found.notes[0] and "socket" in found.notes[1]


@pytest.mark.parametrize("name", [b"bad\nname", b"back\\slash", b"not-utf8-\xff"])
def test_a_name_that_cannot_travel_is_refused(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_text("x")
    with pytest.raises(ConfigError, match="cannot be used"):
        collect(tmp_path)


def test_required_files_must_be_there_and_not_ignored(tmp_path: Path) -> None:
    write(tmp_path, "src/predictor.py")
    assert collect(tmp_path, required=["src/predictor.py", "./src/predictor.py"]).files
    with pytest.raises(ConfigError, match=r"predictor\.py does not exist"):
        collect(tmp_path, required=["predictor.py"])
    write(tmp_path, ".gitignore", "src/\n")
    with pytest.raises(ConfigError, match=r"add a line `!src/predictor\.py` to \.seraiignore"):
        collect(tmp_path, required=["src/predictor.py"])


def test_a_home_folder_is_refused() -> None:
    for folder in (Path.home(), Path.home().parent, Path("/")):
        with pytest.raises(ConfigError, match="home folder"):
            collect(folder)


def test_a_file_and_an_absent_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a file"):
        collect(write(tmp_path, "a.py"))
    with pytest.raises(ConfigError, match="cannot be read"):
        collect(tmp_path / "absent")


def test_a_big_project_is_told_with_its_biggest_files(tmp_path: Path) -> None:
    for name, size_bytes in (("huge.bin", 400 * 2**20), ("big.bin", 200 * 2**20)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size_bytes)
    write(tmp_path, "a.py")
    (note,) = collect(tmp_path).notes
    assert note.startswith("the project has 600 MiB in 3 files, the biggest: huge.bin (400 MiB)")


def test_a_file_over_the_limit_is_named(tmp_path: Path) -> None:
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(ConfigError, match=r"weights\.bin has 20,480 MiB"):
        collect(tmp_path)


def test_an_endless_ignore_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ".gitignore", "x\n" * MAX_IGNORE_BYTES)
    with pytest.raises(ConfigError, match=r"\.gitignore is larger"):
        collect(tmp_path)


def test_folders_nested_too_deep_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "/".join(["d"] * (MAX_DEPTH + 1)) + "/file")
    with pytest.raises(ConfigError, match="nested deeper than 100 folders"):
        collect(tmp_path)
