"""Locks made by the real uv, from a small index on this machine."""

import hashlib
import io
import os
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from serai.errors import ConfigError, Unavailable
from serai_cli.project.lock import LOCK_FILE, Lock, LockRequest, resolve, write
from tests.support.ports import free_port

LINUX = "x86_64-unknown-linux-gnu"
NOW_S = 4e9
"""Later than any file of this test, so that what is cached looks a day old unless touched."""


def wheel(name: str, version: str, requires: str = "") -> bytes:
    """Return a wheel that holds nothing but its metadata."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return packed.getvalue()


@dataclass(frozen=True)
class Index:
    """A package index on this machine, and what it was asked for."""

    url: str
    wheels: dict[str, bytes]
    requests: list[str]
    stop: Callable[[], Awaitable[None]]

    def add(self, name: str, version: str, requires: str = "", tag: str = "py3-none-any") -> None:
        self.wheels[f"{name}-{version}-{tag}.whl"] = wheel(name, version, requires)


@pytest.fixture
async def index() -> AsyncIterator[Index]:
    wheels: dict[str, bytes] = {}
    requests: list[str] = []

    async def listing(request: web.Request) -> web.Response:
        requests.append(request.path)
        name = request.match_info["name"].replace("-", "_")
        found = [file for file in wheels if file.startswith(f"{name}-")]
        if not found:
            return web.Response(status=404)
        links = "".join(
            f'<a href="/files/{f}#sha256={hashlib.sha256(wheels[f]).hexdigest()}">{f}</a>'
            for f in found
        )
        return web.Response(text=f"<html><body>{links}</body></html>", content_type="text/html")

    async def file(request: web.Request) -> web.Response:
        return web.Response(body=wheels[request.match_info["file"]])

    app = web.Application()
    app.add_routes([web.get("/simple/{name}/", listing), web.get("/files/{file}", file)])
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    made = Index(f"http://127.0.0.1:{port}/simple/", wheels, requests, runner.cleanup)
    made.add("runtime_base", "1.0")
    made.add("runtime_base", "2.0")
    made.add("model_kit", "1.0", "runtime_base<2")
    yield made
    await runner.cleanup()


@dataclass(frozen=True)
class Project:
    """A project folder with a cache beside it."""

    folder: Path
    cache: Path
    environment: Mapping[str, str]

    async def lock(
        self,
        text: str | None,
        runtime: tuple[str, ...] = ("runtime-base",),
        now_s: float | None = None,
        upgrade: bool = False,
    ) -> Lock:
        path = self.folder / "requirements.txt"
        if text is not None:
            path.write_text(text)
        request = LockRequest(None if text is None else path, runtime, "3.11", LINUX)
        wall_s = time.time() if now_s is None else now_s  # noqa: TID251 - cached files are real
        return await resolve(request, self.cache, wall_s, self.environment, upgrade)


@pytest.fixture
def project(tmp_path: Path, index: Index) -> Project:
    (tmp_path / "project").mkdir()
    return Project(tmp_path / "project", tmp_path / "cache", environment(tmp_path, index.url))


def environment(tmp_path: Path, url: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    own = {"UV_CACHE_DIR": str(tmp_path / "uv"), "UV_HTTP_RETRIES": "0"}
    return {**kept, **own, "PIP_INDEX_URL": url}


def away(project: Project) -> Project:
    """Return the same project with an index that nobody serves."""
    gone = {**project.environment, "PIP_INDEX_URL": f"http://127.0.0.1:{free_port()}/simple/"}
    return Project(project.folder, project.cache, gone)


async def test_resolves_the_users_together_with_the_runtimes(project: Project) -> None:
    lock = await project.lock("model-kit\n")
    lines = [line for line in lock.text.splitlines() if "==" in line]
    assert lines == ["model-kit==1.0 \\", "runtime-base==1.0 \\"]
    assert lock.text.count("--hash=sha256:") == 2
    assert lock.origin == "resolved" and len(lock.digest) == 64
    assert sorted(path.name for path in project.folder.iterdir()) == ["requirements.txt"]


async def test_without_requirements_the_runtimes_are_locked(project: Project) -> None:
    lock = await project.lock(None)
    assert lock.text.startswith("runtime-base==2.0 \\\n")
    nothing = await project.lock(None, runtime=())
    assert (nothing.text, nothing.digest, nothing.origin) == ("", "", "nothing")


async def test_the_same_inputs_are_resolved_once(project: Project, index: Index) -> None:
    first = await project.lock("model-kit\n")
    index.requests.clear()
    again = await project.lock("model-kit\n")
    assert (again.text, again.origin, index.requests) == (first.text, "cache", [])


async def test_after_a_day_it_is_resolved_anew_but_stays_the_same(
    project: Project, index: Index
) -> None:
    first = await project.lock(None)
    index.add("runtime_base", "3.0")
    index.requests.clear()
    later = await project.lock(None, now_s=NOW_S)
    assert later.origin == "resolved" and later.text == first.text
    newest = await project.lock(None, upgrade=True)
    assert newest.text.startswith("runtime-base==3.0")


async def test_an_old_lock_serves_while_the_index_is_away(project: Project, index: Index) -> None:
    first = await project.lock(None)
    await index.stop()
    later = await project.lock(None, now_s=NOW_S)
    assert (later.text, later.origin) == (first.text, "cache")
    assert "the last lock is used" in later.notes[0]


async def test_a_lock_in_the_folder_is_used_as_it_is_without_a_network(
    project: Project, index: Index
) -> None:
    lock = await project.lock("model-kit\n")
    write(project.folder / LOCK_FILE, lock)
    elsewhere = Project(project.folder, project.cache / "empty", away(project).environment)
    index.requests.clear()
    offline = await elsewhere.lock("model-kit\n")
    assert (offline.text, offline.digest, offline.origin) == (lock.text, lock.digest, "folder")
    assert index.requests == []


async def test_a_lock_in_the_folder_that_does_not_fit_is_told(
    project: Project, index: Index
) -> None:
    index.add("extra", "1.0")
    write(project.folder / LOCK_FILE, await project.lock("runtime-base<2\n"))
    lock = await project.lock("runtime-base\nextra\n")
    assert lock.notes == (f"{LOCK_FILE} does not fit the requirements any more",)
    assert "runtime-base==1.0" in lock.text, "what was locked before is kept where it can be"
    assert "extra==1.0" in lock.text


async def test_an_index_that_is_away_is_said_to_be(project: Project) -> None:
    with pytest.raises(Unavailable, match=r"the package index at http://127.0.0.1:\d+"):
        await away(project).lock("model-kit\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("model-kti\n", r"no package model-kti in the index \(requirements.txt:1: model-kti\)"),
        ("model-kit==9\n", r"no version model-kit==9 in the index"),
        ("runtime-base==1.0\nruntime-base==2.0\n", "contradict each other"),
        ("model-kit\nruntime-base>=2\n", "contradict each other"),
        ("only-windows\n", r"only-windows==1.0 has no wheel for Python 3.11 on x86_64"),
        ("model kit !\n", "cannot be resolved"),
    ],
)
async def test_what_does_not_resolve_is_told_with_its_line(
    project: Project, index: Index, text: str, why: str
) -> None:
    index.add("only_windows", "1.0", tag="py3-none-win_amd64")
    with pytest.raises(ConfigError, match=why) as caught:
        await project.lock(text)
    assert str(caught.value).startswith("requirements.txt: ")
    assert str(project.folder) not in str(caught.value)


async def test_an_index_option_goes_into_the_lock_and_passwords_do_not(
    project: Project, index: Index
) -> None:
    url = index.url.replace("http://", "http://me:${INDEX_TOKEN}@")
    plain = {k: v for k, v in project.environment.items() if k != "PIP_INDEX_URL"}
    own = Project(project.folder, project.cache, {**plain, "INDEX_TOKEN": "hush"})
    lock = await own.lock(f"--index-url {url}\nmodel-kit\n")
    assert lock.text.startswith(f"--index-url {url}\nmodel-kit==1.0")
    with_secret = {**project.environment, "PIP_INDEX_URL": index.url.replace("//", "//me:hush@")}
    hidden = await Project(project.folder, project.cache, with_secret).lock("model-kit\n")
    assert "hush" not in lock.text + hidden.text and "index-url" not in hidden.text
    kept = b"".join(path.read_bytes() for path in (project.cache / "locks").iterdir())
    assert b"hush" not in kept
