"""Folders of a cache: put in place whole, measured, removed."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serai.errors import Unavailable

UNFINISHED = ".new-"


def fresh_folder(target: Path) -> Path:
    """Make a folder beside `target`, to be put in its place later."""
    return Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=target.parent))


def put_in_place(fresh: Path, target: Path) -> None:
    """Let a folder that is complete take the place of `target`."""
    remove(target)
    fresh.rename(target)


@contextmanager
def in_place(target: Path) -> Iterator[Path]:
    """Give a fresh folder that becomes `target` at the end, whole or not at all."""
    fresh = fresh_folder(target)
    try:
        yield fresh
        put_in_place(fresh, target)
    except BaseException:  # cancelled or not: what is not whole may not stay
        remove(fresh)
        raise


def remove(folder: Path) -> None:
    """Remove a folder, read-only parts too; one that is not there is no error."""
    for parent, folders, _ in os.walk(folder):
        for name in (".", *folders):
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                with contextlib.suppress(OSError):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def readable_by_all(folder: Path) -> None:
    """Let other users read what is below a folder, whatever the umask was: replicas are not us."""
    for parent, _, names in os.walk(folder):
        os.chmod(parent, os.lstat(parent).st_mode | 0o555)
        for name in names:
            path = os.path.join(parent, name)
            mode = os.lstat(path).st_mode
            wanted = mode | (0o555 if mode & 0o100 else 0o444)
            if wanted != mode and not os.path.islink(path):
                os.chmod(path, wanted)


def remove_unfinished(folder: Path, older_s: float, now_s: float) -> None:
    """Remove what a crash left half made; younger things may be in the making."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            if now_s - path.lstat().st_mtime > older_s:
                if path.is_dir():
                    remove(path)
                else:
                    path.unlink()


def size_bytes(folder: Path) -> int:
    """Return what a folder takes on the disk; a file with several names counts as a share."""
    total = 0.0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(parent, name))
                total += found.st_size / max(1, found.st_nlink)
    return round(total)


def disk_problem(error: OSError, folder: Path) -> Unavailable:
    """Say in plain words why something could not be stored."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"the disk that holds {folder} is full; free some space")
    return Unavailable(f"{folder} cannot be written: {error.strerror or error}")
