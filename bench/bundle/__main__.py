"""2,000 files, 200 MB: a first deploy against `cp -r` and sha256sum, and a second after one edit.

The page cache is warm for both sides (the tree was just written, and is far smaller than memory);
writes that are still on their way to the disk are waited for before each turn. The server is a
process of its own on loopback, as the scheduler is. Starting Python and reading the requirements
are not part of it.
"""

import asyncio
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import sync
from pathlib import Path
from random import Random
from statistics import median

import aiohttp

from bench.report import ROOT, at_most, exactly, finish, interleaved, ratio
from serai.clock import SystemClock
from serai_cli.project.blob_client import Target
from serai_cli.project.bundle import build
from serai_cli.project.collect import collect
from serai_cli.project.upload import Progress, upload

FILES = 2000
TOTAL_BYTES = 200_000_000
FOLDERS = 40
ROUNDS = 7
QUIET_S = 2.5
"""Files younger than this are hashed anew each time."""
WORK = ROOT / "bench" / ".work"


def make_tree(root: Path, rng: Random) -> None:
    """Write files of very different sizes that are 200 MB together, some ignored ones beside."""
    weights = [rng.lognormvariate(0, 1.2) for _ in range(FILES)]
    for number, weight in enumerate(weights):
        folder = root / f"package_{number % FOLDERS}" / "data"
        folder.mkdir(parents=True, exist_ok=True)
        size_bytes = round(weight / sum(weights) * TOTAL_BYTES)
        (folder / f"file_{number}.bin").write_bytes(rng.randbytes(size_bytes))
    (root / ".gitignore").write_text("*.log\n/build/\n*.tmp\n!keep.tmp\n")


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run the routes on a fresh store; yield the address."""
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.bundle.server", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
    finally:
        child.stdin.close()
        child.wait(timeout=30)


@dataclass(frozen=True)
class Deployed:
    """One deploy: how long it took, what was sent, and what the bundle is called."""

    took_s: float
    sent: Progress
    bundle: str


def deploy(project: Path, cache: Path, url: str) -> Deployed:
    """Find, hash and upload a project's files."""

    async def whole() -> tuple[Progress, str]:
        async with aiohttp.ClientSession() as session:
            bundle = build(collect(project), cache, time.time_ns())
            sent = await upload(
                session, Target(url), bundle.sources, lambda _: None, SystemClock(), Random(1)
            )
            return sent, bundle.digest

    began_s = time.perf_counter()
    sent, digest = asyncio.run(whole())
    return Deployed(time.perf_counter() - began_s, sent, digest)


def by_hand(project: Path, copy: Path) -> float:
    """Return the seconds that `cp -r` and sha256sum of every file take."""
    began_s = time.perf_counter()
    subprocess.run(["cp", "-r", str(project), str(copy)], check=True)
    found = ["find", str(project), "-type", "f", "-exec", "sha256sum", "{}", "+"]
    subprocess.run(found, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


class Turns:
    """One turn of each kind of work, on fresh folders every time."""

    def __init__(self, project: Path, work: Path, rng: Random) -> None:
        self._project = project
        self._work = work
        self._rng = rng
        self.second_s: list[float] = []
        self.unchanged_s: list[float] = []
        self.sent_files: list[int] = []

    def hand(self) -> float:
        """Copy and hash by hand."""
        with self._fresh() as folder:
            return by_hand(self._project, folder / "copy")

    def first(self) -> float:
        """Deploy to an empty store with an empty cache, then twice more."""
        with self._fresh() as folder, server(folder) as url:
            done = deploy(self._project, folder / "cache", url)
            assert done.sent.sent_files == FILES + 1, done
            self._again(folder, url)
            return done.took_s

    def _again(self, folder: Path, url: str) -> None:
        """Deploy after one edit, and once more after none."""
        before = stored(folder)
        path = self._rng.choice(sorted(self._project.rglob("*.bin")))
        content = self._rng.randbytes(path.stat().st_size)
        path.write_bytes(content)
        second = deploy(self._project, folder / "cache", url)
        new = stored(folder) - before
        assert new == {hashlib.sha256(content).hexdigest(), second.bundle}, new
        self.sent_files.append(second.sent.sent_files - 1)
        self.second_s.append(second.took_s)
        unchanged = deploy(self._project, folder / "cache", url)
        assert unchanged.sent.sent_files == 0, unchanged
        self.unchanged_s.append(unchanged.took_s)

    @contextmanager
    def _fresh(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(dir=self._work))
        sync()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def stored(folder: Path) -> set[str]:
    """Return the names of all blobs in a store."""
    return {path.name for path in (folder / "blobs").glob("*/*")}


def main() -> None:
    """Measure, and print the result."""
    rng = Random(7)
    WORK.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=WORK, prefix="bundle-"))
    try:
        project = work / "project"
        make_tree(project, rng)
        asyncio.run(SystemClock().sleep(QUIET_S))
        turns = Turns(project, work, rng)
        found = interleaved({"first": turns.first, "by_hand": turns.hand}, ROUNDS)
    finally:
        shutil.rmtree(work)
    print("first deploys, s:", " ".join(f"{took_s:.2f}" for took_s in found["first"]))
    print("by hand, s:      ", " ".join(f"{took_s:.2f}" for took_s in found["by_hand"]))
    finish(
        "bundle",
        {
            "first_over_by_hand": ratio(found, "first", "by_hand"),
            "first_s": median(found["first"]),
            "by_hand_s": median(found["by_hand"]),
            "second_s": median(turns.second_s),
            "second_sent_files": max(turns.sent_files),
            "unchanged_s": median(turns.unchanged_s),
            "files": FILES,
            "megabytes": TOTAL_BYTES // 10**6,
        },
        {
            "first_over_by_hand": at_most(2),
            "second_s": at_most(0.5),
            "second_sent_files": exactly(1),
        },
    )


if __name__ == "__main__":
    main()
