"""Environments for the Python of an image, which this node need not have.

They are venvs as the others are, but for the interpreter: the link leads to where the image has it.
So a replica's command is the same in both, and `.pth` files count, which PYTHONPATH ignores.
"""

import asyncio
import re
import shutil
from pathlib import Path

from serai.cache_names import image_interpreter
from serai.errors import ConfigError
from serai_agent.cache import uv_tool

PLATFORM = re.compile(r"linux-(x86_64|aarch64)-glibc-(\d+)\.(\d+)")
NEWEST_GLIBC = (2, 40)
OWN_FOLDER = """\
#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"
' '''
"""
"""The first lines of a script that starts the Python beside it, as uv writes them."""


async def build(home: Path, python: str, platform: str, limit_s: float) -> None:
    """Fill `home`, an empty folder but for its `lock.txt`.

    `python` is "3.11", `platform` as `uv_platform` has it. Raises as `uv_tool.install`.
    """
    site = home / "lib" / f"python{python}" / "site-packages"
    site.mkdir(parents=True)
    await uv_tool.install_for(site, home / "lock.txt", python, uv_platform(platform), limit_s)
    await asyncio.to_thread(_lay_out, home, site, python)


def uv_platform(platform: str) -> str:
    """Return how uv calls a platform such as `linux-x86_64-glibc-2.36`; ConfigError without one."""
    found = PLATFORM.fullmatch(platform)
    if found is None:
        raise ConfigError(
            f"no environment can be made for an image of {platform!r}; "
            "expected a platform such as linux-x86_64-glibc-2.36"
        )
    machine, major, minor = found[1], int(found[2]), int(found[3])
    # What is made for an older one runs on a newer one, for which uv has no name yet.
    major, minor = min((major, minor), NEWEST_GLIBC)
    return f"{machine}-manylinux_{major}_{minor}"


def _lay_out(home: Path, site: Path, python: str) -> None:
    """Make a venv of what uv has installed: interpreter, configuration, scripts."""
    programs, interpreter = home / "bin", image_interpreter(python)
    scripts = site / "bin"
    if scripts.is_dir():
        shutil.move(scripts, programs)
    programs.mkdir(exist_ok=True)
    for script in programs.iterdir():
        _set_interpreter(script)
    for name in ("python", "python3", f"python{python}"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(interpreter)
    folder = Path(interpreter).parent
    (home / "pyvenv.cfg").write_text(
        f"home = {folder}\ninclude-system-site-packages = false\nversion = {python}\n"
    )
    (site / ".lock").unlink(missing_ok=True)


def _set_interpreter(script: Path) -> None:
    """Let a script start the Python beside it: uv wrote the one that installed it."""
    head, _, rest = script.read_bytes().partition(b"\n")
    if head.startswith(b"#!") and b"python" in head:
        mode = script.stat().st_mode
        script.unlink()  # the file may be one with uv's cache
        script.write_bytes(OWN_FOLDER.encode() + rest)
        script.chmod(mode)
