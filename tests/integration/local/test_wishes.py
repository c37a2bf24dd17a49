"""The agent's half of the wishes, on a real disk, up to a replica's task that waits for it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serai.cache_names import BUNDLES, FAILED_SUFFIX, WISHES, Wish, wish_name, wish_text
from serai.clock import Clock, SimClock, SystemClock
from serai.errors import Refused, Unavailable
from serai_agent.cache.in_use import markers_named, note_use
from serai_agent.cache.node import NodeCache
from serai_agent.cache.wishes import KEPT_S, Wishes
from serai_agent.local.place import Place, Tell
from serai_scheduler.nomad.places import Places
from serai_scheduler.nomad.waiting import waiting_arguments
from tests.integration.local.test_caches import PYTHON, stored
from tests.support.wait import auntil

WISH = Wish(bundle="b" * 64)


class Granting:
    """A cache that does what the test says, and tells what it was asked for."""

    def __init__(self, act: Callable[[], Awaitable[None]]) -> None:
        self.asked: list[Wish] = []
        self._act = act

    async def grant(self, wish: Wish, tell: Tell) -> Place:
        self.asked.append(wish)
        await self._act()
        return Place(environment=None, bundle=None)


@asynccontextmanager
async def served(wishes: Wishes) -> AsyncIterator[None]:
    task = asyncio.create_task(wishes.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def leave(cache: Path, text: str, name: str = "") -> Path:
    path = cache / WISHES / (name or wish_name(text))
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    return path


def reason(wish: Path) -> str:
    path = wish.with_name(wish.name + FAILED_SUFFIX)
    return path.read_text() if path.exists() else ""


async def nothing() -> None:
    return None


async def refuse() -> None:
    raise Refused("there is no such bundle", "not_found")


async def test_a_wish_is_granted_once_and_taken_away(tmp_path: Path) -> None:
    cache = Granting(nothing)
    wish = leave(tmp_path, wish_text(WISH))
    wish.with_name(wish.name + FAILED_SUFFIX).write_text("a reason of before")
    async with served(Wishes(SystemClock(), tmp_path, cache)):
        await auntil(lambda: not wish.exists())
    assert cache.asked == [WISH]
    assert list(wish.parent.iterdir()) == []
    assert wish.parent.stat().st_mode & 0o7777 == 0o1777, "tasks run as whom the operator likes"


async def test_the_reason_lies_beside_a_wish_that_cannot_be_granted(tmp_path: Path) -> None:
    wish = leave(tmp_path, wish_text(WISH))
    async with served(Wishes(SystemClock(), tmp_path, Granting(refuse))):
        await auntil(lambda: not wish.exists())
    assert reason(wish) == "there is no such bundle\n"


async def test_a_full_disk_keeps_a_reason_back_and_is_not_filled_with_parts_of_it(
    tmp_path: Path,
) -> None:
    """Each try would leave another file of no bytes, twice a second: those take no room."""
    clock, cache = SystemClock(), Granting(refuse)
    wish = leave(tmp_path, wish_text(WISH))
    (wish.parent / f"{wish.name}{FAILED_SUFFIX}").mkdir()  # the reason cannot take this place
    async with served(Wishes(clock, tmp_path, cache)):
        await auntil(lambda: cache.asked != [])
        await clock.sleep(1.5)
        assert len(cache.asked) == 1, "not each time that the folder is looked at"
        assert list(wish.parent.glob(".new-*")) == []
        (wish.parent / f"{wish.name}{FAILED_SUFFIX}").rmdir()
        await auntil(lambda: not wish.exists())
    assert reason(wish) == "there is no such bundle\n"


async def test_what_may_pass_is_tried_again_for_a_while(tmp_path: Path) -> None:
    async def away() -> None:
        raise Unavailable("no scheduler answers")

    cache = Granting(away)
    wish = leave(tmp_path, wish_text(WISH))
    async with served(Wishes(SimClock(), tmp_path, cache)):
        await auntil(lambda: not wish.exists())
    assert len(cache.asked) > 5
    assert reason(wish) == "no scheduler answers\n"


async def test_a_wish_that_ends_while_the_folder_is_looked_at_keeps_its_reason(
    tmp_path: Path,
) -> None:
    """Time that passes at once makes looks follow on each other, so that many meet an end."""
    left = [leave(tmp_path, wish_text(Wish(bundle=f"{at:064x}"))) for at in range(300)]
    async with served(Wishes(SimClock(), tmp_path, Granting(refuse))):
        await auntil(lambda: not any(wish.exists() for wish in left))
    assert {reason(wish) for wish in left} == {"there is no such bundle\n"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}" + " " * 5000, "has more than"),
        ('{"bundle": "../../etc"}', "bundle"),
        ('{"python": "3.11 --index evil"}', "python"),
        ("\x00", "not a valid Wish"),
    ],
)
async def test_what_is_no_wish_is_told(tmp_path: Path, text: str, told: str) -> None:
    cache = Granting(nothing)
    wish = leave(tmp_path, text)
    async with served(Wishes(SystemClock(), tmp_path, cache)):
        await auntil(lambda: not wish.exists())
    assert told in reason(wish)
    assert cache.asked == []


async def test_neither_links_nor_pipes_nor_other_names_are_read(tmp_path: Path) -> None:
    cache = Granting(nothing)
    text = wish_text(WISH)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(text)
    wrong = leave(tmp_path, text, name="0" * 32 + ".json")
    link, pipe = wrong.with_name("1" * 32 + ".json"), wrong.with_name("2" * 32 + ".json")
    other = leave(tmp_path, text, name="notes.txt")
    link.symlink_to(elsewhere)
    os.mkfifo(pipe)
    async with served(Wishes(SystemClock(), tmp_path, cache)):
        await auntil(lambda: all(reason(one) for one in (wrong, link, pipe)))
    assert cache.asked == []
    assert other.exists() and elsewhere.read_text() == text


async def test_what_nobody_asks_for_any_more_goes_after_a_day(tmp_path: Path) -> None:
    clock: Clock = SystemClock()
    old, new = leave(tmp_path, "old", name=".new-1"), leave(tmp_path, "new", name=".new-2")
    os.utime(old, (clock.wall() - KEPT_S - 1,) * 2)
    Wishes(clock, tmp_path, Granting(nothing)).prune()
    assert not old.exists() and new.exists()


async def test_a_replica_that_waits_gets_its_bundle(tmp_path: Path) -> None:
    store, digest = stored({"app.py": b"print(1)", "lib/a.py": b""})
    wish = Wish(bundle=digest)
    marker = tmp_path / BUNDLES / f"{digest}.manifest"
    places = Places("", str(marker.with_suffix("")), (str(marker),), wish_text(wish))
    command = ["/bin/sh", *waiting_arguments(places, str(tmp_path), 30)]
    cache = NodeCache(SystemClock(), tmp_path, store)
    async with served(Wishes(SystemClock(), tmp_path, cache)):
        tasks = [await asyncio.create_subprocess_exec(*command) for _ in range(2)]
        async with asyncio.timeout(20):
            assert [await task.wait() for task in tasks] == [0, 0]
    assert (tmp_path / BUNDLES / digest / "app.py").read_bytes() == b"print(1)"


async def test_a_node_of_another_platform_says_so(tmp_path: Path) -> None:
    text = wish_text(Wish(lock="a" * 64, python=PYTHON, environment=f"{PYTHON}-other"))
    wish = leave(tmp_path, text)
    store, _ = stored({})
    async with served(Wishes(SystemClock(), tmp_path, NodeCache(SystemClock(), tmp_path, store))):
        await auntil(lambda: not wish.exists())
    assert f"looks for the environment {PYTHON}-other, which this node (" in reason(wish)


def test_what_processes_name_is_in_use(tmp_path: Path) -> None:
    bundles, environment = tmp_path / BUNDLES, tmp_path / "environments" / "3.11-abc"
    markers = [bundles / f"{name * 64}.manifest" for name in "def"]
    markers.append(environment / "serai-environment.json")
    for marker in markers:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        os.utime(marker, (1.0, 1.0))
    folder = bundles / ("e" * 64)
    folder.mkdir()
    words = [str(environment / "bin/python"), f"{bundles}/{'d' * 64}/predictor.py"]
    by_words = subprocess.Popen([sys.executable, "-c", "input()", *words], stdin=subprocess.PIPE)
    by_folder = subprocess.Popen(["sleep", "60"], cwd=folder)
    try:
        assert note_use(tmp_path) == 3
    finally:
        for process in (by_words, by_folder):
            process.kill()
            process.communicate()
    used = [marker.stat().st_mtime > 1.0 for marker in markers]
    assert used == [True, True, False, True]


def test_names_beside_the_cache_are_not_in_use() -> None:
    cache = Path("/var/lib/serai/cache")
    texts = ["/var/lib/serai/cachex/bundles/abc", f"{cache}/files/abc", f"{cache}/bundles/../x"]
    assert markers_named(texts, cache) == frozenset()
