"""Environments and bundles on the node, built with the real uv and laid out on a real disk."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from serai.bundle import BundleFile, Manifest
from serai.clock import SystemClock
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.model import digest_of
from serai.spec.types import Predictor
from serai.wire import encode
from serai_agent.cache.bundles import BundleCache, is_whole
from serai_agent.cache.environments import EnvironmentCache, Recipe, problem_of, recipe_of
from serai_agent.cache.node import NodeCache
from serai_agent.cache.settings import CacheSettings
from serai_agent.cache.uv_tool import BUILDS_VARIABLE
from tests.integration.local.world import needs_root, small_disk, version

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
NOTHING_KEPT = CacheSettings(environments_bytes=0, bundles_bytes=0, kept_s=0.0)


def tiny_wheel(folder: Path) -> Path:
    """Make a wheel with one module, so that no index is needed."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    files = {
        "tiny.py": "ANSWER = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


def lock_for(wheel: Path) -> bytes:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"tiny @ {wheel.as_uri()} --hash=sha256:{digest}\n".encode()


@pytest.fixture
def lock(tmp_path: Path) -> bytes:
    return lock_for(tiny_wheel(tmp_path))


@pytest.fixture
def recipe(lock: bytes) -> Recipe:
    return recipe_of(digest_of(lock), PYTHON)


def run_in(home: Path, code: str) -> str:
    command = [str(home / "bin" / "python"), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def test_an_environment_is_built_once_for_all_who_want_it(
    tmp_path: Path, lock: bytes, recipe: Recipe
) -> None:
    store = Store(lock)
    cache = EnvironmentCache(SystemClock(), tmp_path, store)
    homes = await asyncio.gather(*(cache.ensure(recipe) for _ in range(5)))
    assert len(set(homes)) == 1 and cache.builds == 1
    assert run_in(homes[0], "import tiny; print(tiny.ANSWER)") == "42"
    found = run_in(homes[0], "import serai_runtime; print(serai_runtime.__file__)")
    assert found.startswith(str(homes[0]))
    assert await cache.ensure(recipe) == homes[0]
    assert store.asked == [recipe.lock], "what is built needs no store"
    left = [path.name for path in (tmp_path / "environments").iterdir()]
    assert sorted(left) == sorted([f".{recipe.key}.lock", recipe.key])


async def test_two_processes_build_an_environment_once(
    tmp_path: Path, lock: bytes, recipe: Recipe
) -> None:
    """Two caches on one folder stand for two processes: they share nothing but the disk."""
    caches = [EnvironmentCache(SystemClock(), tmp_path, Store(lock)) for _ in range(2)]
    await asyncio.gather(*(cache.ensure(recipe) for cache in caches))
    assert sum(cache.builds for cache in caches) == 1


@pytest.mark.parametrize("damage", ["changed", "removed", "python", "marker"])
async def test_a_damaged_environment_is_built_again(
    tmp_path: Path, lock: bytes, recipe: Recipe, damage: str
) -> None:
    cache = EnvironmentCache(SystemClock(), tmp_path, Store(lock))
    home = await cache.ensure(recipe)
    (site,) = home.glob("lib/python*/site-packages")
    if damage == "changed":
        (site / "tiny.py").unlink()  # a new file: the old one may be shared with uv's cache
        (site / "tiny.py").write_text("ANSWER = 43\n")
    elif damage == "removed":
        (site / "serai_runtime" / "server.py").unlink()
    elif damage == "python":
        (home / "bin" / "python").unlink()
    else:
        (home / "serai-environment.json").write_text("{")
    assert await asyncio.to_thread(problem_of, home, recipe) is not None
    await cache.ensure(recipe)
    assert cache.builds == 2
    assert run_in(home, "import tiny; print(tiny.ANSWER)") == "42"


async def test_a_lock_that_cannot_be_installed_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path)
    wrong = f"tiny @ {wheel.as_uri()} --hash=sha256:{'0' * 64}\n".encode()
    store = Store(wrong)
    cache = EnvironmentCache(SystemClock(), tmp_path, store)
    with pytest.raises(ConfigError, match=r"(?i)hash"):
        await cache.ensure(recipe_of(digest_of(wrong), PYTHON))
    assert [p for p in (tmp_path / "environments").iterdir() if p.suffix != ".lock"] == []
    store.add("0" * 64, b"")
    with pytest.raises(ConfigError, match="damaged"):
        await cache.ensure(recipe_of("0" * 64, PYTHON))


async def test_a_python_that_is_not_there_is_told_with_those_that_are(
    tmp_path: Path, lock: bytes
) -> None:
    cache = EnvironmentCache(SystemClock(), tmp_path, Store(lock))
    with pytest.raises(ConfigError, match=rf"no Python 3\.99 \(found: .*{PYTHON}"):
        await cache.ensure(recipe_of(digest_of(lock), "3.99"))


async def test_a_build_has_a_deadline(tmp_path: Path, lock: bytes, recipe: Recipe) -> None:
    cache = EnvironmentCache(
        SystemClock(), tmp_path, Store(lock), CacheSettings(build_limit_s=0.001)
    )
    with pytest.raises(Unavailable, match=r"0\.001 s"):
        await cache.ensure(recipe)


async def test_what_a_crash_left_half_made_goes_after_a_day(tmp_path: Path) -> None:
    cache = EnvironmentCache(SystemClock(), tmp_path, Store(), NOTHING_KEPT)
    young, old = (tmp_path / "environments" / name for name in (".new-young", ".new-old"))
    for folder in (young, old):
        (folder / "lib").mkdir(parents=True)
    os.utime(old, (0, 0))
    await cache.prune([])
    assert young.exists() and not old.exists()


async def test_a_build_that_outlived_a_crash_ends_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "environments"
    (folder / ".new-x").mkdir(parents=True)
    builds = {**os.environ, BUILDS_VARIABLE: str(folder)}
    elsewhere = {**os.environ, BUILDS_VARIABLE: f"{folder}-other"}
    mine = await asyncio.create_subprocess_exec("sleep", "60", env=builds)
    another = await asyncio.create_subprocess_exec("sleep", "60", env=elsewhere)
    try:
        await EnvironmentCache(SystemClock(), tmp_path, Store()).open()
        async with asyncio.timeout(5):
            # 255 where the process that was killed was waited for there, not here.
            assert await mine.wait() in (-signal.SIGKILL, 255)
        assert another.returncode is None
    finally:
        for process in (mine, another):
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert not (folder / ".new-x").exists()


async def test_environments_in_use_are_not_pruned(
    tmp_path: Path, lock: bytes, recipe: Recipe
) -> None:
    cache = EnvironmentCache(SystemClock(), tmp_path, Store(lock), NOTHING_KEPT)
    home = await cache.ensure(recipe)
    await cache.prune([recipe])
    assert problem_of(home, recipe) is None
    await cache.prune([])
    assert not home.exists()


# Bundles -----------------------------------------------------------------------------------------


class Store:
    """Content in memory behind the caches' port, counting what is asked for."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {digest_of(content): content for content in contents}
        self.asked: list[str] = []

    def add(self, digest: str, content: bytes) -> None:
        self.contents[digest] = content

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        self.asked.append(digest)
        if digest not in self.contents:
            raise Refused(f"no blob {digest}", "no_blob")
        content = self.contents[digest]
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]


def manifest_of(files: Mapping[str, bytes]) -> Manifest:
    return Manifest(
        files=tuple(
            BundleFile(
                path=path,
                digest=digest_of(content),
                size_bytes=len(content),
                executable=path.endswith(".sh"),
            )
            for path, content in sorted(files.items())
        )
    )


def stored(files: Mapping[str, bytes]) -> tuple[Store, str]:
    """Return a store that holds a bundle, and the bundle's digest."""
    raw = encode(manifest_of(files))
    return Store(raw, *files.values()), digest_of(raw)


FILES = {"predictor.py": b"x = 1\n", "pkg/__init__.py": b"", "run.sh": b"#!/bin/sh\n"}


async def test_a_bundle_is_laid_out_read_only_and_found_again(tmp_path: Path) -> None:
    store, digest = stored({**FILES, "weights.bin": b"w" * 5000})
    cache = BundleCache(SystemClock(), tmp_path, store)
    tree = await cache.ensure(digest)
    found = {str(p.relative_to(tree)): p for p in tree.rglob("*") if p.is_file()}
    assert sorted(found) == ["pkg/__init__.py", "predictor.py", "run.sh", "weights.bin"]
    assert found["weights.bin"].read_bytes() == b"w" * 5000
    assert found["run.sh"].stat().st_mode & 0o777 == 0o555
    assert found["predictor.py"].stat().st_mode & 0o777 == 0o444
    asked = len(store.asked)
    assert await BundleCache(SystemClock(), tmp_path, store).ensure(digest) == tree
    assert len(store.asked) == asked, "what lies there whole is not fetched again"


async def test_what_a_killed_agent_had_half_fetched_is_gone_with_its_next_start(
    tmp_path: Path,
) -> None:
    """Else each kill leaves up to a whole model for a day, and a full disk stays full."""
    store, digest = stored(FILES)
    tree = await BundleCache(SystemClock(), tmp_path, store).ensure(digest)
    half = tmp_path / "files" / ".new-half"
    half.write_bytes(b"w" * 5000)
    (tree.parent / ".new-tree" / "pkg").mkdir(parents=True)
    await NodeCache(SystemClock(), tmp_path, store).open()
    assert not half.exists() and not (tree.parent / ".new-tree").exists()
    assert is_whole(tree, digest)


async def test_two_bundles_share_the_files_they_have_in_common(tmp_path: Path) -> None:
    weights = b"w" * 5000
    store, first = stored({"a.py": b"1", "weights.bin": weights})
    other = encode(manifest_of({"a.py": b"2", "weights.bin": weights}))
    store.add(digest_of(other), other)
    store.add(digest_of(b"2"), b"2")
    cache = BundleCache(SystemClock(), tmp_path, store)
    trees = await asyncio.gather(cache.ensure(first), cache.ensure(digest_of(other)))
    inodes = {(tree / "weights.bin").stat().st_ino for tree in trees}
    assert len(inodes) == 1 and store.asked.count(digest_of(weights)) == 1


async def test_a_bundle_that_was_written_to_is_laid_out_again(tmp_path: Path) -> None:
    store, digest = stored(FILES)
    cache = BundleCache(SystemClock(), tmp_path, store)
    tree = await cache.ensure(digest)
    target = tree / "predictor.py"
    target.chmod(0o644)
    target.write_bytes(b"y = 2\n")  # as long as it was: size alone would not tell
    assert not is_whole(tree, digest)
    await cache.ensure(digest)
    assert target.read_bytes() == FILES["predictor.py"] and is_whole(tree, digest)


async def test_more_equal_files_than_the_disk_allows_names(tmp_path: Path) -> None:
    """Thousands of empty `__init__.py`: a file has a limited number of names on most disks."""
    store, digest = stored({f"d{n // 1000}/f{n}.py": b"" for n in range(5000)})
    tree = await BundleCache(SystemClock(), tmp_path, store).ensure(digest)
    assert is_whole(tree, digest)


@pytest.mark.parametrize(
    "path",
    ["../evil", "/etc/evil", "a/../../evil", "a//b", "./a", "a/./b", "a\\b", "a\nb", "a/"],
)
async def test_a_path_that_could_leave_its_folder_is_refused(tmp_path: Path, path: str) -> None:
    file = BundleFile(path=path, digest=digest_of(b"x"), size_bytes=1)
    raw = encode(Manifest(files=(file,)))
    cache = BundleCache(SystemClock(), tmp_path / "cache", Store(raw, b"x"))
    with pytest.raises((Refused, ConfigError)):
        await cache.ensure(digest_of(raw))
    made = [name for _, folders, files in os.walk(tmp_path) for name in (*folders, *files)]
    assert sorted(made) == ["bundles", "cache", "files"]


def broken_stores() -> Iterator[tuple[str, Store, str]]:
    store, digest = stored(FILES)
    del store.contents[digest_of(FILES["predictor.py"])]
    yield "missing", store, digest
    store, digest = stored(FILES)
    store.add(digest_of(FILES["predictor.py"]), b"y = 9\n")
    yield "other content", store, digest
    store, digest = stored(FILES)
    store.add(digest_of(FILES["predictor.py"]), b"x = 1\n" * 1000)
    yield "too long", store, digest
    store, digest = stored(FILES)
    store.add(digest, encode(manifest_of({"a": b""})))
    yield "other manifest", store, digest
    yield "no manifest", Store(b"{}"), digest_of(b"{}")


@pytest.mark.parametrize(
    ("store", "digest"), [pytest.param(s, d, id=name) for name, s, d in broken_stores()]
)
async def test_a_damaged_bundle_is_an_error_and_leaves_nothing(
    tmp_path: Path, store: Store, digest: str
) -> None:
    with pytest.raises((ConfigError, Refused)):
        await BundleCache(SystemClock(), tmp_path, store).ensure(digest)
    assert list((tmp_path / "bundles").iterdir()) == []
    assert not [path for path in (tmp_path / "files").iterdir() if path.name.startswith(".")]


async def test_bundles_in_use_are_not_pruned_and_lonely_files_are(tmp_path: Path) -> None:
    store, digest = stored(FILES)
    cache = BundleCache(SystemClock(), tmp_path, store, NOTHING_KEPT)
    tree = await cache.ensure(digest)
    await cache.prune({digest})
    assert is_whole(tree, digest)
    for _ in range(2):  # files go in the pass after the last bundle that had them
        await cache.prune(set())
    assert not tree.exists()
    assert list((tmp_path / "files").iterdir()) == []
    assert is_whole(await cache.ensure(digest), digest)


async def test_a_full_disk_is_told_and_nothing_is_half_there(tmp_path: Path) -> None:
    needs_root()
    with small_disk(tmp_path / "disk", "200k") as small:
        store, digest = stored({"weights.bin": b"w" * 1_000_000})
        with pytest.raises(SeraiError, match="full") as caught:
            await BundleCache(SystemClock(), small, store).ensure(digest)
        assert isinstance(caught.value, Unavailable)
        assert list((small / "files").iterdir()) == list((small / "bundles").iterdir()) == []


# Both --------------------------------------------------------------------------------------------


async def test_a_version_gets_its_parts_by_their_digests(tmp_path: Path, lock: bytes) -> None:
    store, bundle = stored(FILES)
    store.add(digest_of(lock), lock)
    cache = NodeCache(SystemClock(), tmp_path / "cache", store, NOTHING_KEPT)
    said: list[str] = []
    program = msgspec.structs.replace(version().content, bundle=bundle)
    predictor = msgspec.structs.replace(
        program, predictor=Predictor(path="predictor.py"), pod=None, python=PYTHON
    )
    pod = msgspec.structs.replace(version(), content=program)
    wanted = msgspec.structs.replace(
        version(), content=msgspec.structs.replace(predictor, lock=digest_of(lock))
    )
    place = await cache.place(pod, said.append)
    assert place.environment is None and place.bundle is not None
    assert said == ["fetching the bundle"]
    place = await cache.place(wanted, said.append)
    assert said[1:] == ["fetching the bundle", "building the environment"]
    assert place.environment is not None and (place.environment / "bin" / "python").exists()
    await cache.prune([wanted])
    assert place.environment.exists()
    await cache.prune([pod])
    assert not place.environment.exists() and place.bundle is not None and place.bundle.exists()
    with pytest.raises(ConfigError, match="no lock"):
        await cache.place(msgspec.structs.replace(version(), content=predictor), said.append)
    await cache.close()
