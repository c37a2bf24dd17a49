"""Environments for an image's Python, built with the real uv on a node that need not have it."""

import asyncio
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from serai.clock import SystemClock
from serai.errors import ConfigError
from serai.model import digest_of
from serai_agent.cache.environments import EnvironmentCache, Recipe, image_recipe, problem_of
from serai_cli.project.lock import LockRequest, resolve
from tests.integration.local.test_caches import Store

PYTHON = "3.13"
PLATFORM = "linux-x86_64-glibc-2.36"


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a lock with a package that is compiled, and one that has a script."""
    request = LockRequest(None, ("msgspec", "idna"), PYTHON, "x86_64-unknown-linux-gnu")
    made = asyncio.run(resolve(request, tmp_path_factory.mktemp("locks"), 0.0))
    return made.text.encode()


@pytest.fixture
def recipe(lock: bytes) -> Recipe:
    return image_recipe(digest_of(lock), PYTHON, "", PLATFORM)


async def test_it_is_for_the_image_and_built_once(
    tmp_path: Path, lock: bytes, recipe: Recipe
) -> None:
    """It is a venv whose Python is the image's; the command of a replica is the usual one."""
    umask = os.umask(0o077)
    try:
        cache = EnvironmentCache(SystemClock(), tmp_path, Store(lock))
        homes = await asyncio.gather(*(cache.ensure(recipe) for _ in range(3)))
        assert len(set(homes)) == 1 and cache.builds == 1
    finally:
        os.umask(umask)
    home = homes[0]
    site = home / "lib" / f"python{PYTHON}" / "site-packages"
    assert list(site.glob("msgspec/_core.cpython-313-x86_64-linux-gnu.so"))
    assert (site / "serai_runtime" / "server.py").exists()
    assert os.readlink(home / "bin" / "python") == f"/usr/bin/python{PYTHON}"
    assert "home = /usr/bin\n" in (home / "pyvenv.cfg").read_text()
    script = (home / "bin" / "idna").read_text()
    assert script.startswith("#!/bin/sh\n") and str(tmp_path) not in script
    assert all(p.stat().st_mode & 0o004 for p in home.glob("*/**/*") if not p.is_symlink())
    assert all(p.stat().st_mode & 0o005 == 0o005 for p in (home, *home.rglob("*")) if p.is_dir())


@pytest.mark.parametrize("damage", ["changed", "python"])
async def test_a_damaged_one_is_built_again(
    tmp_path: Path, lock: bytes, recipe: Recipe, damage: str
) -> None:
    cache = EnvironmentCache(SystemClock(), tmp_path, Store(lock))
    home = await cache.ensure(recipe)
    if damage == "changed":
        next(home.glob("lib/*/site-packages/idna/core.py")).unlink()
    else:
        (home / "bin" / "python").unlink()
        (home / "bin" / "python").symlink_to("/usr/bin/python3")
    assert await asyncio.to_thread(problem_of, home, recipe) is not None
    await cache.ensure(recipe)
    assert cache.builds == 2 and await asyncio.to_thread(problem_of, home, recipe) is None


async def test_what_would_have_to_be_compiled_is_refused(tmp_path: Path) -> None:
    """What is built on the node might not run in the image."""
    archive = tmp_path / "plain-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        text = b"Metadata-Version: 2.1\nName: plain\nVersion: 1.0\n"
        info = tarfile.TarInfo("plain-1.0/PKG-INFO")
        info.size = len(text)
        out.addfile(info, io.BytesIO(text))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    lock = f"plain @ {archive.as_uri()} --hash=sha256:{digest}\n".encode()
    cache = EnvironmentCache(SystemClock(), tmp_path, Store(lock))
    recipe = image_recipe(digest_of(lock), PYTHON, "", PLATFORM)
    with pytest.raises(ConfigError, match=rf"plain has no wheel for Python {PYTHON}"):
        await cache.ensure(recipe)


async def test_a_platform_without_wheels_is_told(tmp_path: Path, lock: bytes) -> None:
    recipe = image_recipe(digest_of(lock), PYTHON, "", "linux-x86_64-")
    with pytest.raises(ConfigError, match="expected a platform such as linux-x86_64-glibc"):
        await EnvironmentCache(SystemClock(), tmp_path, Store(lock)).ensure(recipe)
