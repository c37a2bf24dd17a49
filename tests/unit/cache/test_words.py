"""What the cache makes of other programs' words."""

import pytest

from serai.errors import ConfigError, Unavailable
from serai.runtime_code import requirements_of_extra, runtime_digest
from serai_agent.cache.environments import recipe_of
from serai_agent.cache.uv_tool import in_words


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("error: Failed to fetch: `…`\n  Caused by: error sending request for url", Unavailable),
        ("error: failed to write\n  Caused by: No space left on device (os error 28)", Unavailable),
        ("error: Hash mismatch for `idna==3.10`", ConfigError),
        ("", ConfigError),
    ],
)
def test_errors_are_told_apart(output: str, kind: type[Exception]) -> None:
    assert type(in_words(output)) is kind


def test_only_the_last_lines_are_told() -> None:
    found = str(in_words("\n".join(f"line {number}" for number in range(100))))
    assert "line 99" in found and "line 50" not in found


def test_requirements_of_an_extra_however_it_is_quoted() -> None:
    lines = ["msgspec>=0.19", "aiohttp>=3.11; extra == 'runtime'", 'uvloop ; extra == "runtime"']
    assert requirements_of_extra([*lines, "uv; extra == 'cli'"], "runtime") == (
        "aiohttp>=3.11",
        "uvloop",
    )


def test_an_environment_is_named_by_all_that_it_is_made_from() -> None:
    first = recipe_of("a" * 64, "3.11")
    assert first == recipe_of("a" * 64, "3.11", runtime_digest())
    others = (
        recipe_of("b" * 64, "3.11"),
        recipe_of("a" * 64, "3.12"),
        recipe_of("a" * 64, "3.11", "c"),
    )
    assert len({first.key, *(other.key for other in others)}) == 4
    assert first.key.startswith("3.11-")
