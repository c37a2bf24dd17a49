"""One Serai for the tests that only use it; those that break it start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serai import Serai, serving


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serai]:
    with serving(tmp_path_factory.mktemp("shared")) as serai:
        yield serai


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Serai]:
    with serving(tmp_path) as serai:
        yield serai
