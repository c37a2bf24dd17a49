"""The only module that calls uv: makes an environment, installs a lock, puts errors in words."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import uv

from serai.errors import ConfigError, SeraiError, Unavailable
from serai_agent.leftovers import end_marked

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
LISTED = re.compile(r"\w+-(\d+\.\d+)\.\d")
NO_WHEEL = re.compile(
    r"(?:Wheels are required for|attempted to build|Building source distributions for) `([^`]+)`"
)
BUILDS_VARIABLE = "SERAI_BUILDS"
"""Marks uv and all that it starts, so that what outlives a crash is recognised."""
LINES_KEPT = 40
LINES_TOLD = 8
LINE_LIMIT_BYTES = 2**20
AWAY_WORDS = (
    *("error sending request", "timed out", "dns error", "connection", "client error (connect)"),
    *("503 service unavailable", "502 bad gateway", "504 gateway timeout", "429 too many"),
)
MISSING_WORDS = (
    *("no interpreter found", "no virtual environment or system python"),
    *("failed to inspect python interpreter", "querying python at"),
)


def end_leftovers(builds: Path) -> int:
    """Kill what a crash left building below a folder; return how many processes. For a thread."""
    return end_marked(BUILDS_VARIABLE, str(builds))


async def make_environment(home: Path, python: str, limit_s: float) -> None:
    """Make an empty environment for a Python that is on this machine; nothing is downloaded.

    Raises ConfigError that names the Pythons found when the one asked for is missing.
    """
    chosen = sys.executable if python == OWN else python  # the one that surely works
    options = ("--no-project", "--relocatable", "--allow-existing")
    try:
        await _run(("venv", *options, "--python", chosen, home), limit_s, home.parent)
    except _Failed as failed:
        if not any(words in failed.output.lower() for words in MISSING_WORDS):
            raise in_words(failed.output) from None
        found = ", ".join(await _pythons(limit_s))
        raise ConfigError(
            f"this node has no Python {python} (found: {found}); install it there, "
            "or set predictor.python to one of these"
        ) from None


async def install(home: Path, lock: Path, limit_s: float) -> None:
    """Install exactly what a lock with hashes names.

    Raises ConfigError when the lock cannot be installed, Unavailable when trying again may help.
    """
    command = (
        *("pip", "install", "--python", home / "bin" / "python", "--require-hashes", "--no-deps"),
        *("--compile-bytecode", "-r", lock),
    )
    try:
        await _run(command, limit_s, home.parent)
    except _Failed as failed:
        raise in_words(failed.output) from None


async def install_for(site: Path, lock: Path, python: str, platform: str, limit_s: float) -> None:
    """Install a lock for a Python and platform (uv's name) that need not be this machine's.

    Only wheels: what is built here might not run there. Raises as `install`.
    """
    command = (
        *("pip", "install", "--target", site, "--require-hashes", "--no-deps"),
        *("--python", sys.executable, "--python-version", python, "--python-platform", platform),
        *("--only-binary", ":all:", "-r", lock),
        # Another Python's bytecode would be of no use to that one.
        *(("--compile-bytecode",) if python == OWN else ()),
    )
    try:
        await _run(command, limit_s, site.parents[2].parent)
    except _Failed as failed:
        if found := NO_WHEEL.search(failed.output):
            raise ConfigError(
                f"{found[1]} has no wheel for Python {python} on {platform}, and an image's "
                "environment is made of wheels only; pin a release that has one, or put one on "
                "your index"
            ) from None
        raise in_words(failed.output) from None


def in_words(output: str) -> SeraiError:
    """Return the error that uv's output stands for."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = "\n".join(lines[-LINES_TOLD:]) or "uv said nothing"
    lowered = output.lower()
    if "no space left" in lowered:
        return Unavailable("the disk is full: free some space for the environment")
    if any(words in lowered for words in AWAY_WORDS):
        return Unavailable(f"the package index does not answer:\n{told}")
    return ConfigError(f"the environment cannot be built from its lock:\n{told}")


class _Failed(Exception):
    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output


async def _pythons(limit_s: float) -> list[str]:
    """Return the versions on this machine; the one that runs this need not be on PATH."""
    found = {OWN}
    with contextlib.suppress(_Failed, Unavailable):
        listed = await _run(("python", "list", "--only-installed"), limit_s)
        found |= {match[1] for line in listed.splitlines() if (match := LISTED.match(line))}
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


async def _run(arguments: Sequence[str | Path], limit_s: float, builds: Path | None = None) -> str:
    own = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    if builds is not None:
        own[BUILDS_VARIABLE] = str(builds)
    try:
        process = await asyncio.create_subprocess_exec(
            *(uv.find_uv_bin(), "--no-python-downloads", "--no-progress", "--color", "never"),
            *map(str, arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=own,
            limit=LINE_LIMIT_BYTES,
            start_new_session=True,  # builds from source start compilers: all end together
        )
    except (OSError, FileNotFoundError) as error:
        raise Unavailable(f"uv cannot be started: {error}") from error
    last: deque[str] = deque(maxlen=LINES_KEPT)
    try:
        async with asyncio.timeout(limit_s):
            assert process.stdout is not None
            async for line in process.stdout:
                last.append(line.decode("utf-8", "replace"))
            await process.wait()
    except TimeoutError:
        raise Unavailable(f"uv did not finish within {limit_s:g} s") from None
    except ValueError:
        raise Unavailable("uv wrote an endless line") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode and process.returncode < 0:  # nothing that its lock could be blamed for
        raise Unavailable(
            f"uv was ended by signal {-process.returncode}, from outside or for want of memory"
        )
    if process.returncode:
        raise _Failed("".join(last))
    return "".join(last)
