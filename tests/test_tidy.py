"""Rules about the code that a linter cannot say; the numbers only ever go down."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("common", "agent", "scheduler", "runtime", "cli")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE_LINES, FUNCTION_LINES = 400, 50
BROAD_EXCEPTS_ALLOWED = 11
"""Supervisors of loops, the user's predictor, and nothing else."""


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_files_fit_in_a_head() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCES
        if (lines := path.read_text().count("\n")) > FILE_LINES
    }
    assert not long


def test_functions_fit_on_a_screen() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": _lines(node)
        for path in SOURCES
        for node in _functions(path)
        if _lines(node) > FUNCTION_LINES
    }
    assert not long


def test_component_folders_hold_one_package_and_no_loose_modules() -> None:
    loose = [str(p.relative_to(ROOT)) for p in SOURCES if len(p.relative_to(ROOT).parts) == 2]
    assert not loose, "each folder is on sys.path: a loose module would become a top-level import"


def test_tests_use_no_mocks() -> None:
    pattern = re.compile(r"\b(MagicMock|AsyncMock|mock\.patch|monkeypatch\.setattr)\b")
    mocked = [
        str(path.relative_to(ROOT))
        for path in TESTS
        if path != Path(__file__) and pattern.search(path.read_text())
    ]
    assert not mocked, "if a test needs a mock, the shape is wrong: change the shape"


def _swallows(node: ast.ExceptHandler) -> bool:
    """Say whether a handler takes every error and does not pass it on as it was."""
    broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
    last = node.body[-1]
    return broad and not (isinstance(last, ast.Raise) and last.exc is None)


def test_no_error_is_raised_inside_except_star() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.TryStar)
    ]
    assert not found, "it comes wrapped in a group before Python 3.11.4: use serai.errors.ungrouped"


def test_broad_excepts_stay_at_their_boundaries() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and _swallows(node)
    ]
    assert len(found) <= BROAD_EXCEPTS_ALLOWED, found


def test_nothing_is_left_for_later_in_remarks() -> None:
    words = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")))
    remarks = [
        str(path.relative_to(ROOT)) for path in [*SOURCES, *TESTS] if words.search(path.read_text())
    ]
    assert not remarks
