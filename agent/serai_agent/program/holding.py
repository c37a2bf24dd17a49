"""One agent at a time has a node's data folder; whoever asks is told which process that is."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serai.errors import ConfigError

LOCK_FILE = "agent.lock"


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Make the folder and hold it; ConfigError says who holds it, or why it cannot be had."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigError(
            f"data_dir: cannot write to {folder}: {error.strerror}; choose another"
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"data_dir: another serai-agent (process {_told(fd) or 'unknown'}) has {folder}"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def holder(folder: Path) -> int | None:
    """Return the process that holds the folder, None for none."""
    try:
        fd = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _told(fd)
    finally:
        os.close(fd)
    return None


def _told(fd: int) -> int | None:
    with contextlib.suppress(ValueError):
        return int(os.pread(fd, 32, 0))
    return None
