"""The folder of one replica: what was ordered, how it was started, how it is, how it ended.

Everything the engine must know after a crash is here; each file is written beside its name and
renamed, so that a reader finds all of it or nothing.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import TypeVar

import msgspec

from serai import wire
from serai.errors import ConfigError, SeraiError, Unavailable
from serai.model import Replica, Value, Version

T = TypeVar("T")


class Order(Value):
    """What the engine was told: written before anything is done about it."""

    replica: str
    version: Version
    created_at_s: float


class Launch(Value):
    """How the keeper starts the replica; it may hold secrets of `env` and is removed at the end.

    `ports` is one per process; `launches` counts how often it was started, this time included.
    """

    command: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    log_file_bytes: int
    log_files: int
    log_line_bytes: int
    oom_score_adj: int
    ports: tuple[int, ...]
    launches: int = 1
    oom_file: str = ""


class KeeperState(msgspec.Struct, frozen=True, kw_only=True):
    """What the keeper tells; unknown keys are let through, since an older keeper may live on."""

    keeper_pid: int
    child_pid: int = 0
    started_at_s: float = 0.0
    ended_at_s: float | None = None
    exit_code: int | None = None
    signal: str | None = None
    oom: bool = False
    stop_asked: bool = False
    killed: bool = False
    log_bytes_lost: int = 0


class Stop(Value):
    """The order to end: how long the replica may take."""

    grace_s: float


class Ready(Value):
    """Since when all of its servers have been ready at least once (wall clock)."""

    at_s: float


class RuntimeExit(msgspec.Struct, frozen=True, kw_only=True):
    """How a process of the runtime ended last; the supervisor says it in words."""

    why: str = ""
    at: float = 0.0


class RuntimeProcess(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the runtime as its supervisor tells it."""

    index: int
    phase: str = ""
    restarts: int = 0
    last_exit: RuntimeExit | None = None


class RuntimeFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why the runtime gave up."""

    reason: str = ""


class RuntimeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The runtime's status file."""

    processes: tuple[RuntimeProcess, ...] = ()
    failure: RuntimeFailure | None = None


class ReplicaFolder:
    """Reads and writes the files of one replica."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def temporary(self) -> Path:
        return self.path / "tmp"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    def create(self, order: Order) -> None:
        """Make the folder with its order, or nothing; raise Unavailable when the disk refuses."""
        try:
            for folder in (self.logs, self.temporary):
                folder.mkdir(parents=True, mode=0o700)
            self.write("order.json", wire.encode(order))
        except (OSError, SeraiError) as error:
            shutil.rmtree(self.path, ignore_errors=True)
            if isinstance(error, OSError):
                raise disk_error(error, self.path) from error
            raise

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place whole; raise Unavailable when the disk refuses."""
        try:
            write_whole(self.path / name, data)
        except OSError as error:
            raise disk_error(error, self.path) from error

    def order(self) -> Order | None:
        return self._read("order.json", Order)

    def launch(self) -> Launch | None:
        return self._read("launch.json", Launch)

    def keeper_state(self) -> KeeperState | None:
        return self._read("state.json", KeeperState)

    def status(self) -> RuntimeStatus | None:
        return self._read("status.json", RuntimeStatus)

    def stop(self) -> Stop | None:
        return self._read("stop.json", Stop)

    def ready(self) -> Ready | None:
        return self._read("ready.json", Ready)

    def ended(self) -> Replica | None:
        return self._read("ended.json", Replica)

    def drop(self, *names: str) -> None:
        """Remove files that are of no more use; those that are missing are no error."""
        for name in names:
            with contextlib.suppress(OSError):
                (self.path / name).unlink()

    def _read(self, name: str, kind: type[T]) -> T | None:
        try:
            return wire.decode((self.path / name).read_bytes(), kind)
        except (OSError, ConfigError):
            return None

    def keeper_lives(self) -> bool:
        """Say whether the keeper holds its lock: true of a living one only, whatever its id."""
        try:
            fd = os.open(self.path / "keeper.lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, even after a power cut; raise OSError."""
    fresh = path.with_name(path.name + ".new")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def disk_error(error: OSError, path: Path) -> Unavailable:
    """Say in plain words why a folder cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"the disk that holds {path} is full; free some space, then try again")
    return Unavailable(f"{path} cannot be written: {error.strerror or error}")
