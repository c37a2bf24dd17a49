"""A root folder with Python made by debootstrap, packed: an image where there is no registry."""

import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from serai.errors import ConfigError, Unavailable


@dataclass(frozen=True)
class Suite:
    """A release of Debian, and what it calls GLib."""

    name: str
    glib: str


PACKAGES = ("python3", "ca-certificates", "libgomp1")
"""Python, certificates of the web, and, with GLib, what common wheels do not bring themselves:
OpenMP (LightGBM, XGBoost, PyTorch); GLib is for OpenCV, also the headless one. libGL is left out:
with its drivers it is larger than all the rest, and no model needs a screen."""
SUITES = {"3.11": Suite("bookworm", "libglib2.0-0"), "3.13": Suite("trixie", "libglib2.0-0t64")}
"""Debian's release for each Python."""
MIRROR = "http://deb.debian.org/debian"
BUILD_LIMIT_S = 1800.0
LINES_TOLD = 5
LEFT_OUT = (
    *("dev/", "proc/", "sys/", "run/", "tmp/", "debootstrap/", "boot/"),
    *("var/cache/apt/", "var/lib/apt/lists/", "var/log/"),
    *("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/info/"),
)
"""What is in these folders is of no use in a container; the folders themselves stay."""


def suite_of(python: str) -> Suite:
    """Return Debian's release that has this Python; ConfigError names those that there are."""
    if python not in SUITES:
        raise ConfigError(
            f"Debian has no Python {python} for an image without a registry; "
            f"use one of {', '.join(SUITES)}, or leave out --debootstrap"
        )
    return SUITES[python]


def find_debootstrap() -> str:
    """Return the program; ConfigError where it is missing or could do nothing."""
    program = shutil.which("debootstrap")
    if program is None:
        raise ConfigError("debootstrap is missing; install it: sudo apt install debootstrap")
    if os.geteuid() != 0:
        raise ConfigError("debootstrap needs root: run this command with sudo")
    return program


def make_root(folder: Path, python: str, mirror: str = MIRROR) -> Path:
    """Make a root in an empty folder and return the archive beside it; takes a minute.

    Raises ConfigError where debootstrap cannot run, Unavailable when the mirror does not answer.
    """
    suite = suite_of(python)
    root, archive = folder / "root", folder / "root.tar"
    command = [
        *(
            find_debootstrap(),
            "--variant=minbase",
            f"--include={','.join((*PACKAGES, suite.glib))}",
        ),
        *(suite.name, str(root), mirror),
    ]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"debootstrap did not finish within {BUILD_LIMIT_S:g} s") from None
    if ran.returncode != 0:
        told = "\n".join((ran.stdout + ran.stderr).splitlines()[-LINES_TOLD:])
        raise Unavailable(f"debootstrap could not make a root from {mirror}:\n{told}")
    pack(root, archive)
    return archive


def pack(root: Path, archive: Path) -> None:
    """Write a root as an archive, without what a container has no use for."""

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if entry.name.removeprefix("./").startswith(LEFT_OUT) else entry

    with tarfile.open(archive, "w") as out:
        out.add(root, arcname=".", filter=wanted)
