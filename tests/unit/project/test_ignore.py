"""Ignore rules, held against git itself."""

import re
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serai_cli.project.collect import collect
from serai_cli.project.ignore import parse_rules, verdict

NAMES = ["a", "b", "ab", "x.py", "x.txt", "build", "k[1]", "sp ", "!z", "#h"]
PIECES = [
    *("a", "b", "ab", "x", ".py", ".txt", "build", "*", "**", "?", "/", "/**/", "**/", "/**"),
    *("[ab]", "[!a]", "[^a]", "[a-c]", "[]a]", "[[:alpha:]]", "\\", "[", "]", " ", "k\\[1\\]"),
    *("\\ ", "#h", "!z", "\\#h", "\\!z", "***"),
]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
lines = st.tuples(
    st.sampled_from(["", "", "!"]),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join),
    st.sampled_from(["", "", "/"]),
).map("".join)
rules = st.lists(lines, min_size=1, max_size=4).map("\n".join)


def make_tree(root: Path, files: list[str]) -> None:
    for path in files:
        try:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("x")
        except OSError:
            continue  # a file is in the way of a folder, or the other way round


def git_keeps(root: Path) -> list[str]:
    """Return the files that git would add, from a repository that knows no other rules."""
    git = ["git", "-c", "core.excludesFile=/dev/null", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True, timeout=30)
    told = subprocess.run(
        [*git, "ls-files", "-o", "-z", "--exclude-per-directory=.gitignore"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    names = [name for name in told.stdout.decode().split("\0") if name]
    return sorted(name for name in names if not name.endswith(".gitignore"))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(paths, min_size=1, max_size=8), rules, st.none() | rules)
def test_leaves_out_what_git_leaves_out(files: list[str], top: str, below: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_tree(root, files)
        (root / ".gitignore").write_text(top)
        if below is not None and (root / "a").is_dir():
            (root / "a" / ".gitignore").write_text(below)
        assert [file.path for file in collect(root).files] == git_keeps(root)


@pytest.mark.parametrize(
    ("rules_text", "path", "is_folder", "ignored"),
    [
        ("*\n!*/\n!*.py", "src", True, False),
        ("*\n!*/\n!*.py", "src/a.txt", False, True),
        ("*\n!*/\n!*.py", "src/a.py", False, False),
        ("/build", "src/build", True, None),
        ("build/", "build", False, None),
        ("a/**/b", "a/b", False, True),
        ("a/**", "a", True, None),
        ("[!a]x", "bx", False, True),
        ("[a/]", "/", False, None),
        ("x\\", "x", False, None),
        ("[a", "[a", False, None),
        ("a\\ ", "a ", False, True),
        ("a ", "a", False, True),
        ("a\r", "a", False, True),
        ("\\#a", "#a", False, True),
        ("[b-a]", "a", False, None),
        ("/a**", "a/b", False, True),
        ("/?**", "a/b", False, None),
    ],
)
def test_judges_a_path(rules_text: str, path: str, is_folder: bool, ignored: bool | None) -> None:
    assert verdict(parse_rules(rules_text), path, is_folder) is ignored


@given(st.text(max_size=40), st.text(min_size=1, max_size=20))
def test_no_text_breaks_it(text: str, path: str) -> None:
    verdict(parse_rules(text), path, is_folder=False)


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(["a", "b", "*", "*", "?", "/"]), min_size=1, max_size=9).map("".join),
    st.text("ab/", min_size=1, max_size=12),
)
def test_many_stars_match_as_each_alone_would(glob: str, path: str) -> None:
    glob = re.sub(r"\*+", "*", glob)
    if glob.startswith("/") or "/" not in glob.removesuffix("/"):
        return
    plain = "".join({"*": "[^/]*", "?": "[^/]"}.get(one, one) for one in glob.removesuffix("/"))
    ignored = verdict(parse_rules(glob), path, is_folder=True) is True
    assert ignored == bool(re.fullmatch(plain, path))


def test_many_stars_take_no_time() -> None:
    (rule,) = parse_rules("*a" * 40 + "b")
    assert not rule.pattern.fullmatch("a" * 200)
    assert rule.pattern.fullmatch("a" * 200 + "b")
