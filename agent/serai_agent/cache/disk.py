"""Folders of a cache: locked across processes, put in place whole, measured, removed."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serai.errors import Unavailable


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file lock against other processes of this node; for a thread, since it waits."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def in_place(target: Path) -> Iterator[Path]:
    """Give a fresh folder that becomes `target` at the end, whole or not at all."""
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        yield fresh
        remove(target)
        fresh.rename(target)
    except BaseException:
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
