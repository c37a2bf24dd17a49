"""Documents that must not drift: the command line's page, links, paths named in text."""

import re
from pathlib import Path

import pytest

from serai_cli.reference import reference
from serai_scheduler.api.app import CONFLICTS, FORBIDDEN_TO_US, NOT_FOUND, TOO_LARGE, UNPROCESSABLE
from serai_scheduler.api.reference import CODES, page
from serai_scheduler.blobs.http import STATUSES

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
PATHS = re.compile(
    r"`((?:common|agent|scheduler|runtime|cli|tests|docs|examples|bench|tools)/[\w./*-]+)`"
)
CODE = re.compile(r'problem\(\s*\d{3}, "([a-z_]+)"')
LINKS = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def test_the_page_about_commands_is_what_the_commands_say() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == reference()


def test_the_page_about_the_operator_api_is_what_its_calls_say() -> None:
    assert (ROOT / "docs" / "operator-api.md").read_text() == page()


def test_every_code_of_the_operator_api_is_on_its_page() -> None:
    told = {*NOT_FOUND, *CONFLICTS, *UNPROCESSABLE, *TOO_LARGE, *FORBIDDEN_TO_US, *STATUSES}
    for path in (ROOT / "scheduler").rglob("*.py"):
        told |= set(CODE.findall(path.read_text()))
    assert told <= CODES.keys(), told - CODES.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    links = [link for link in LINKS.findall(text) if not (page.parent / link).exists()]
    paths = [path for path in PATHS.findall(text) if not list(ROOT.glob(path.rstrip("/")))]
    assert not links and not paths


def test_the_picture_is_what_its_script_draws() -> None:
    import runpy

    drawn = runpy.run_path(str(ROOT / "tools" / "flow_picture.py"))["draw"]()
    assert (ROOT / "docs" / "images" / "flow.svg").read_text() == drawn
