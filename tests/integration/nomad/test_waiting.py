"""The shell text that waits for a node's agent, run by the real /bin/sh."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serai import wire
from serai.cache_names import FAILED_SUFFIX, WISHES, Wish, wish_name
from serai_scheduler.nomad.places import Places, places_of
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.waiting import waiting_arguments
from tests.support.wait import until
from tests.unit.nomad.values import BUNDLE, LOCK, RUNTIME, predictor


class Waiting:
    """One waiting task in a folder that a cache would have."""

    def __init__(self, cache: Path) -> None:
        settings = JobSettings(cache_dir=str(cache))
        self.cache = cache
        self.places: Places = places_of(predictor(), settings)
        self.wish = cache / WISHES / wish_name(self.places.wish)
        self.reason = self.wish.with_name(self.wish.name + FAILED_SUFFIX)

    @contextmanager
    def running(self, limit_s: int = 30) -> Iterator[subprocess.Popen[str]]:
        arguments = waiting_arguments(self.places, str(self.cache), limit_s)
        with subprocess.Popen(["/bin/sh", *arguments], stderr=subprocess.PIPE, text=True) as one:
            try:
                yield one
            finally:
                one.kill()

    def make_parts(self) -> None:
        for marker in map(Path, self.places.markers):
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path / "a cache")


def test_it_asks_for_what_the_job_looks_for_and_starts_when_it_is_there(waiting: Waiting) -> None:
    with waiting.running() as task:
        until(waiting.wish.exists)
        wish = wire.decode(waiting.wish.read_bytes(), Wish)
        name = Path(waiting.places.environment).name
        assert wish == Wish(
            bundle=BUNDLE, lock=LOCK, python="3.11", runtime=RUNTIME, environment=name
        )
        assert [one.name for one in waiting.wish.parent.iterdir()] == [waiting.wish.name]
        waiting.make_parts()
        assert task.wait(5) == 0


def test_what_is_there_already_is_not_asked_for(waiting: Waiting) -> None:
    waiting.make_parts()
    markers = [Path(marker) for marker in waiting.places.markers]
    for marker in markers:
        os.utime(marker, (1.0, 1.0))
    with waiting.running() as task:
        assert task.wait(5) == 0
    assert not waiting.wish.exists()
    assert all(marker.stat().st_mtime > 1.0 for marker in markers), "it is in use"


def test_it_tells_why_the_agent_cannot_and_ends_early(waiting: Waiting) -> None:
    with waiting.running() as task:
        until(waiting.wish.exists)
        waiting.reason.write_text("no such lock\n")
        waiting.wish.unlink()
        _, told = task.communicate(timeout=5)
    assert task.returncode == 1
    assert told.splitlines()[-1] == "no such lock"


def test_a_reason_of_before_is_not_believed(waiting: Waiting) -> None:
    waiting.reason.parent.mkdir(parents=True)
    waiting.reason.write_text("the disk was full\n")
    with waiting.running() as task:
        until(waiting.wish.exists)
        waiting.make_parts()
        _, told = task.communicate(timeout=5)
    assert task.returncode == 0 and "full" not in told


def test_a_wish_that_was_lost_is_made_again(waiting: Waiting) -> None:
    with waiting.running():
        until(waiting.wish.exists)
        waiting.wish.unlink()
        until(waiting.wish.exists)


def test_without_an_agent_it_gives_up_and_says_on_what(waiting: Waiting) -> None:
    with waiting.running(limit_s=1) as task:
        _, told = task.communicate(timeout=10)
    marker = waiting.places.markers[0]
    assert task.returncode == 1
    assert f"gave up after 1 s: this node's agent has not made {marker}" in told


def test_a_folder_that_it_may_not_write_is_told(waiting: Waiting) -> None:
    waiting.cache.write_text("a file where the cache should be")
    with waiting.running(limit_s=1) as task:
        _, told = task.communicate(timeout=10)
    assert task.returncode == 1
    assert f"cannot ask this node's agent in {waiting.cache / WISHES}" in told
