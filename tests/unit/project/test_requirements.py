"""Requirements files, and uv's errors in plain words."""

from pathlib import Path

import pytest

from serai.errors import ConfigError, Unavailable
from serai_cli.project.lock_errors import Asked, explained
from serai_cli.project.requirements import (
    has_password,
    read_requirements,
    without_passwords,
)


def file(folder: Path, text: str, name: str = "requirements.txt") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_reads_lines_includes_and_indexes(tmp_path: Path) -> None:
    file(tmp_path, "scipy\n", "more.txt")
    file(tmp_path, "numpy<3\n-r more.txt\n", "limits.txt")
    path = file(
        tmp_path,
        "# models\nnumpy>=1.26  # arrays\nrequests \\\n  >=2\n"
        "-r more.txt\n--constraint=limits.txt\n"
        "-i https://${USER_1}:${TOKEN}@index.example/simple\n--pre\n",
    )
    found = read_requirements(path)
    assert [(line.place, " ".join(line.text.split())) for line in found.lines] == [
        ("requirements.txt:2", "numpy>=1.26"),
        ("requirements.txt:3", "requests >=2"),
        ("more.txt:1", "scipy"),
        ("limits.txt:1", "numpy<3"),
    ]
    assert found.indexes == ("--index-url https://${USER_1}:${TOKEN}@index.example/simple",)
    assert len(found.contents) == 3
    assert found.place_of("NumPy") == " (requirements.txt:2: numpy>=1.26)"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-e .", "editable"),
        ("--editable ./libs/mine", "editable"),
        (".", "local path"),
        ("./libs/mine", "local path"),
        ("/opt/mine", "local path"),
        ("wheels/mine-1.0-py3-none-any.whl", "local path"),
        ("mine @ file:///opt/mine", "local path"),
        ("git+https://example.org/mine", "has no hash"),
        ("mine @ git+ssh://git@example.org/mine", "has no hash"),
        ("--find-links ./wheels", "folder of your machine"),
        ("-i file:///srv/index", "folder of your machine"),
        ("--extra-index-url https://me:secret@index.example/simple", r"\$\{VARIABLE\}"),
        ("mine @ https://token@example.org/mine.zip", r"\$\{VARIABLE\}"),
    ],
)
def test_what_cannot_be_locked_is_refused_with_its_line(
    tmp_path: Path, line: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        read_requirements(file(tmp_path, f"numpy\n{line}\n"))
    assert str(caught.value).startswith("requirements.txt:2: ")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"more\.txt cannot be read"):
        read_requirements(file(tmp_path, "-r more.txt\n"))


def test_files_that_include_each_other_are_read_once(tmp_path: Path) -> None:
    file(tmp_path, "-r requirements.txt\nscipy\n", "more.txt")
    found = read_requirements(file(tmp_path, "-r more.txt\nnumpy\n"))
    assert [line.text for line in found.lines] == ["numpy", "scipy"]


def test_passwords_are_seen_and_blotted_out() -> None:
    assert has_password("x @ https://me:pw@h/x") and has_password("https://token@h/x")
    assert not has_password("https://${T}@h https://me:${T}@h https://h/a@b")
    assert without_passwords("Failed: https://me:pw@h/x") == "Failed: https://***@h/x"


def asked(tmp_path: Path, text: str) -> Asked:
    requirements = read_requirements(file(tmp_path, text))
    return Asked("requirements.txt", requirements, ("aiohttp>=3.11",), "3.11", "linux")


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (
            "error: No solution found when resolving dependencies\n  cause: Because no-such was "
            "not found in the package registry and you require no-such, we can conclude",
            "requirements.txt: there is no package no-such in the index "
            "(requirements.txt:2: no_such); check its name",
        ),
        (
            "  cause: Because there is no version of numpy==99 and you require numpy==99, we can",
            "requirements.txt: there is no version numpy==99 in the index "
            "(requirements.txt:1: numpy==99)",
        ),
        (
            "  cause: Because numpy==99 has no wheels with a matching platform tag and you\n\n"
            "hint: Wheels are available for `numpy` on the following platforms: `win32`",
            "requirements.txt: numpy==99 has no wheel for Python 3.11 on linux "
            "(requirements.txt:1: numpy==99); ask for another version. hint: Wheels are available "
            "for `numpy` on the following platforms: `win32`",
        ),
        (
            "error: No solution found\n  cause: Because a needs b<1 and c needs b>1, we can",
            "requirements.txt: the requirements contradict each other, or those of the runtime, "
            "which needs aiohttp>=3.11.\n  error: No solution found\n"
            "    cause: Because a needs b<1 and c needs b>1, we can",
        ),
        ("odd\nthing", "requirements.txt: the requirements cannot be resolved.\n  odd\n  thing"),
    ],
)
def test_errors_of_resolution_are_told_in_plain_words(
    tmp_path: Path, output: str, told: str
) -> None:
    error = explained(output, asked(tmp_path, "numpy==99\nno_such\n"))
    assert isinstance(error, ConfigError) and str(error) == told


def test_an_index_that_is_away_may_come_back(tmp_path: Path) -> None:
    output = (
        "error: Request failed after 3 retries\n"
        "  cause: Failed to fetch: https://me:pw@index.example/simple/six/\n"
        "  cause: error sending request for url (https://me:pw@index.example/simple/six/)\n"
    )
    error = explained(output, asked(tmp_path, "six\n"))
    assert isinstance(error, Unavailable)
    assert "https://***@index.example/simple/six/ cannot be reached" in str(error)
    assert "pw" not in str(error)


def test_an_index_that_refuses_names_the_credentials(tmp_path: Path) -> None:
    output = "hint: An index URL (https://h) could not be queried (401 Unauthorized)"
    error = explained(output, asked(tmp_path, "six\n"))
    assert isinstance(error, ConfigError) and "UV_DEFAULT_INDEX" in str(error)
