"""Runtimes of other releases on a node: fetched and checked, kept on a real disk, pruned."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serai.clock import SystemClock
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.runtime_code import read_runtime, runtime_blob, runtime_digest
from serai_agent.cache.environments import EnvironmentCache, recipe_of
from serai_agent.cache.runtimes import RUNTIMES, RuntimeCache
from serai_agent.cache.settings import CacheSettings
from tests.integration.local.test_caches import PYTHON, lock_for, run_in, tiny_wheel
from tests.support.contents import Contents, runtime_of_another_release

ANOTHER = runtime_of_another_release()
KEPT_S = 3600.0


class Away:
    """A store whose every answer is one error."""

    def __init__(self, error: SeraiError) -> None:
        self._error = error

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        raise self._error
        yield b""


AWAY = Away(Unavailable("no scheduler answers"))


def kept(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / RUNTIMES).glob("*"))


async def test_it_is_fetched_once_and_needs_nobody_then(tmp_path: Path) -> None:
    contents = Contents()
    digest = contents.add(ANOTHER)
    there = RuntimeCache(SystemClock(), tmp_path, contents)
    assert await there.files(digest) == read_runtime(ANOTHER)
    later = RuntimeCache(SystemClock(), tmp_path, AWAY)
    assert await later.files(digest) == read_runtime(ANOTHER)
    assert kept(tmp_path) == [digest]


async def test_the_installed_one_is_kept_for_the_day_when_another_is(tmp_path: Path) -> None:
    cache = RuntimeCache(SystemClock(), tmp_path, AWAY)
    assert await cache.files(runtime_digest()) == read_runtime(runtime_blob())
    assert kept(tmp_path) == [runtime_digest()]


async def test_a_damaged_one_is_fetched_again(tmp_path: Path) -> None:
    contents = Contents()
    digest = contents.add(ANOTHER)
    cache = RuntimeCache(SystemClock(), tmp_path, contents)
    await cache.files(digest)
    (path,) = (tmp_path / RUNTIMES).iterdir()
    path.write_bytes(ANOTHER.replace(b"another", b"changed"))
    assert await cache.files(digest) == read_runtime(ANOTHER)
    assert path.read_bytes() == ANOTHER


async def test_what_is_no_runtime_is_told_and_not_kept(tmp_path: Path) -> None:
    contents = Contents()
    digest = contents.add(b"../evil.py\0import os")
    with pytest.raises(ConfigError, match="damaged"):
        await RuntimeCache(SystemClock(), tmp_path, contents).files(digest)
    assert kept(tmp_path) == []


async def test_one_that_nobody_has_is_told(tmp_path: Path) -> None:
    cache = RuntimeCache(SystemClock(), tmp_path, Contents())
    with pytest.raises(ConfigError, match="another release of Serai, whose runtime eeeeeeeeeeee"):
        await cache.files("e" * 64)


@pytest.mark.parametrize(
    "error", [Unavailable("no scheduler answers"), Refused("the token is wrong", "unauthorized")]
)
async def test_why_it_cannot_be_fetched_now_is_told(tmp_path: Path, error: SeraiError) -> None:
    with pytest.raises(type(error), match=str(error)):
        await RuntimeCache(SystemClock(), tmp_path, Away(error)).files("e" * 64)


async def test_environments_have_the_runtime_of_their_version(tmp_path: Path) -> None:
    """And a runtime goes when no version in use was made with it, and none was built lately."""
    contents = Contents()
    lock, digest = contents.add(lock_for(tiny_wheel(tmp_path))), contents.add(ANOTHER)
    settings = CacheSettings(kept_s=KEPT_S)
    cache = EnvironmentCache(SystemClock(), tmp_path, contents, settings)
    recipes = [recipe_of(lock, PYTHON, runtime) for runtime in (runtime_digest(), digest)]
    homes = [await cache.ensure(recipe) for recipe in recipes]
    code = "import serai_runtime; print(getattr(serai_runtime, 'RELEASE', 'installed'))"
    assert [run_in(home, code) for home in homes] == ["installed", "another"]
    await cache.prune([])
    assert kept(tmp_path) == sorted([runtime_digest(), digest])
    for path in (tmp_path / RUNTIMES).iterdir():
        os.utime(path, (1.0, 1.0))
    await cache.prune(recipes[1:])
    assert kept(tmp_path) == [digest]
    await cache.prune([])
    assert kept(tmp_path) == []
