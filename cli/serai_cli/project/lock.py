"""The lock of a project: every package that its replicas get, with hashes, resolved once.

It is made for the Python and the platform of the cluster, never for the machine that deploys.
"""

import asyncio
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uv

from serai.errors import ConfigError, Unavailable
from serai.model import digest_of
from serai_cli.project.digests import write_whole
from serai_cli.project.lock_errors import Asked, explained
from serai_cli.project.requirements import (
    NOTHING,
    Requirements,
    file_name,
    has_password,
    read_requirements,
)

LOCK_FILE = "serai.lock"
MAX_LOCK_BYTES = 4 * 2**20
FRESH_FOR_S = 24 * 3600.0
RESOLVE_LIMIT_S = 300.0
FORM = "1"

_INPUTS = re.compile(r"^# inputs: ([0-9a-f]{64})$", re.MULTILINE)
_READS_A_FILE = re.compile(r"(-r|-c|-e|--requirement|--constraint|--editable)\b")
_FROM_PIP = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX"}
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL")
_IN_PLACE_OF = {
    "UV_DEFAULT_INDEX": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "UV_INDEX": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
}


@dataclass(frozen=True)
class LockRequest:
    """What to resolve: the user's file (None for none) together with what the runtime needs.

    `python` is "3.11"; `platform` is as uv names it, such as "x86_64-unknown-linux-gnu".
    """

    requirements: Path | None
    runtime_requirements: tuple[str, ...]
    python: str
    platform: str


@dataclass(frozen=True)
class Lock:
    """A resolved lock; `inputs` is the digest of what it was made from, `notes` are for the user.

    `origin` is `folder` (serai.lock), `cache`, `resolved` or `nothing`.
    """

    text: str
    inputs: str
    origin: str
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Return the digest of the text, "" when nothing is needed."""
        return digest_of(self.text.encode()) if self.text else ""


async def resolve(
    request: LockRequest,
    cache_folder: Path,
    now_s: float,
    environment: Mapping[str, str] | None = None,
    upgrade: bool = False,
) -> Lock:
    """Return the lock of a project; the same inputs give the same one, with `upgrade` the newest.

    A `serai.lock` beside the requirements that fits them is used as it is, without a network.
    `now_s` is wall-clock time. Raises ConfigError for requirements that cannot be locked, with
    the line; Unavailable when the index does not answer and nothing is cached.
    """
    asked = await asyncio.to_thread(_asked, request)
    inputs = _inputs(request, asked.requirements)
    if not asked.requirements.contents and not request.runtime_requirements:
        return Lock("", inputs, "nothing")
    kept = None if request.requirements is None else request.requirements.parent / LOCK_FILE
    in_folder = None if kept is None or upgrade else await asyncio.to_thread(_load, kept)
    if in_folder is not None and in_folder.inputs == inputs:
        _check(in_folder.text, LOCK_FILE)
        return Lock(in_folder.text, inputs, "folder")
    variables = _variables(os.environ if environment is None else environment)
    cached_path = cache_folder / "locks" / f"{_cache_key(inputs, variables)}.lock"
    cached = None if upgrade else await asyncio.to_thread(_load, cached_path)
    notes = () if in_folder is None else (f"{LOCK_FILE} does not fit the requirements any more",)
    if cached is not None and 0 <= now_s - cached.written_at_s < FRESH_FOR_S:
        return Lock(cached.text, inputs, "cache", notes)
    preferred = cached or in_folder
    try:
        text = await _resolved(request, asked, variables, preferred.text if preferred else "")
    except Unavailable as error:
        if cached is None:
            raise
        return Lock(cached.text, inputs, "cache", (*notes, f"{error}; the last lock is used"))
    lock = Lock(text, inputs, "resolved", notes)
    with contextlib.suppress(OSError):
        await asyncio.to_thread(write, cached_path, lock)
    return lock


def write(path: Path, lock: Lock) -> None:
    """Write a lock with the digest of its inputs; OSError leaves what was there."""
    said = "# Made by serai from the requirements; deploy uses it while they stay the same."
    write_whole(path, f"{said}\n# inputs: {lock.inputs}\n{lock.text}".encode())


@dataclass(frozen=True)
class _Kept:
    text: str
    inputs: str
    written_at_s: float


def _load(path: Path) -> _Kept | None:
    """Read a lock that was written before; None when there is none that could be used."""
    try:
        info = path.stat()
        if info.st_size > MAX_LOCK_BYTES:
            return None
        raw = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    inputs = _INPUTS.search(raw)
    lines = [line for line in raw.splitlines() if line.strip() and not line.startswith("#")]
    text = "".join(f"{line}\n" for line in lines)
    return _Kept(text, inputs[1] if inputs else "", info.st_mtime)


def _asked(request: LockRequest) -> Asked:
    requirements = (
        NOTHING if request.requirements is None else read_requirements(request.requirements)
    )
    return Asked(
        name=file_name(request.requirements),
        requirements=requirements,
        runtime_requirements=request.runtime_requirements,
        python=request.python,
        platform=request.platform,
    )


def _inputs(request: LockRequest, requirements: Requirements) -> str:
    parts = [FORM, request.python, request.platform, *request.runtime_requirements]
    own = [digest_of(content) for content in requirements.contents]
    return digest_of("\n".join([*parts, "", *own]).encode())


def _cache_key(inputs: str, variables: Mapping[str, str]) -> str:
    indexes = [variables.get(name, "") for name in _INDEX_VARIABLES]
    return digest_of("\n".join([inputs, *indexes]).encode())


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return uv's environment: pip's names of indexes count where uv's own are not set."""
    variables = dict(environment)
    for theirs, ours in _FROM_PIP.items():
        if theirs in variables and not any(name in variables for name in _IN_PLACE_OF[ours]):
            variables[ours] = variables[theirs]
    for name in ("VIRTUAL_ENV", "UV_PYTHON", "UV_PYTHON_VERSION"):
        variables.pop(name, None)
    return variables | {"UV_PYTHON_DOWNLOADS": "never"}


async def _resolved(
    request: LockRequest, asked: Asked, variables: Mapping[str, str], preferred: str
) -> str:
    with tempfile.TemporaryDirectory(prefix="serai-lock-") as work:
        out = Path(work) / "lock.txt"
        out.write_text(preferred)
        runtime = Path(work) / "runtime.txt"
        runtime.write_text("".join(f"{line}\n" for line in request.runtime_requirements))
        files = [] if request.requirements is None else [str(request.requirements.absolute())]
        code, output = await _uv(_arguments(request, [*files, str(runtime)], out), work, variables)
        if code != 0:
            for path in files:
                output = output.replace(path, asked.name)
            raise explained(output, asked)
        text = "".join(f"{line}\n" for line in asked.requirements.indexes) + out.read_text()
    _check(text, asked.name)
    return text


def _arguments(request: LockRequest, files: list[str], out: Path) -> list[str]:
    return [
        *("pip", "compile", *files, "--output-file", str(out)),
        *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"),
        *("--no-emit-find-links", "--no-progress", "--color", "never", "--quiet"),
        *("--python", sys.executable),
        *("--python-version", request.python, "--python-platform", request.platform),
    ]


async def _uv(arguments: list[str], folder: str, variables: Mapping[str, str]) -> tuple[int, str]:
    """Run uv in an empty folder, so that no project's settings speak in; return code and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(uv.find_uv_bin(), *arguments),
        cwd=folder,
        env=dict(variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(RESOLVE_LIMIT_S):
            _, errors = await process.communicate()
    except TimeoutError as error:
        raise Unavailable(
            f"the requirements were not resolved within {RESOLVE_LIMIT_S:.0f} s; the index may be "
            "slow: deploy again, or pin versions"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, errors.decode(errors="replace")


def _check(text: str, name: str) -> None:
    """Raise ConfigError for a lock that must not be stored or could not be installed."""
    if len(text.encode()) > MAX_LOCK_BYTES:
        raise ConfigError(f"{name}: the lock is larger than {MAX_LOCK_BYTES} bytes")
    if has_password(text):
        raise ConfigError(f"{name}: an address with a user or password stands in the lock")
    for block in text.replace("\\\n", " ").splitlines():
        if _READS_A_FILE.match(block.lstrip()):
            raise ConfigError(f"{name}: `{block.strip()}` would read a file of the node; remove it")
        if block.strip() and not block.startswith("-") and "--hash=" not in block:
            raise ConfigError(
                f"{name}: {block.split()[0]} has no hash, so its content cannot be verified"
            )
