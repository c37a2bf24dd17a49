"""The data folder of a one-machine Serai: who holds it, how to reach it, its admin token."""

import contextlib
import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from serai.errors import ConfigError
from serai_cli.whereabouts import ENDPOINT_FILE, LOCK_FILE, forget, remember

TOKEN_FILE = "admin-token"
TOKEN_BYTES = 32
PROBE_FILE = ".probe"
NEW_RULES = ".gitignore.new"
LEFT_OUT = "# by serai: the folder holds a token, and belongs to no project around it\n*\n"


@dataclass(frozen=True)
class Endpoint:
    """Where the Serai of a data folder is reached."""

    control_url: str
    gateway_url: str
    pid: int


class DataFolder:
    """Made on first use, readable by its owner only, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock_fd = -1

    def hold(self) -> None:
        """Take the folder for writing; ConfigError says who holds it, or why it cannot be had."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._keep_out_of_bundles()
            probe = self.path / PROBE_FILE
            probe.write_bytes(b"x" * 4096)
            probe.unlink(missing_ok=True)  # another start may have had the same thought
            self.lock()
            os.ftruncate(self._lock_fd, 0)
            os.write(self._lock_fd, str(os.getpid()).encode())
        except OSError as error:
            raise ConfigError(
                f"cannot write to the data folder {self.path}: {error.strerror}; "
                "choose another with --data-dir"
            ) from error

    def _keep_out_of_bundles(self) -> None:
        """Give a fresh folder its rules; one that holds more may be a project's, with its own.

        What a start that failed, or `serai down`, left does not count.
        """
        if all(path.name in (LOCK_FILE, PROBE_FILE, NEW_RULES) for path in self.path.iterdir()):
            new = self.path / NEW_RULES
            new.write_text(LEFT_OUT)
            new.replace(self.path / ".gitignore")  # whole or not at all, also on a full disk

    def lock(self) -> None:
        """Take the folder, without a need for room on its disk; ConfigError says who holds it."""
        self._lock_fd = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(self._held()) from None

    def release(self) -> None:
        """Give the folder back."""
        os.close(self._lock_fd)
        self._lock_fd = -1

    def _held(self) -> str:
        endpoint = self.endpoint()
        where = f" and serves at {endpoint.gateway_url}" if endpoint else ""
        holder = os.pread(self._lock_fd, 32, 0).decode() or "unknown"
        return (
            f"another `serai up` (process {holder}) holds {self.path}{where}; "
            "stop it with `serai down`, or give this one its own --data-dir"
        )

    def holder(self) -> int | None:
        """Return the process that holds the folder, or None."""
        try:
            fd = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError):
                return int(os.pread(fd, 32, 0))
        finally:
            os.close(fd)
        return None

    def token(self) -> str:
        """Return the admin token; it is made at the first start."""
        path = self.path / TOKEN_FILE
        with contextlib.suppress(FileNotFoundError):
            if token := path.read_text().strip():
                return token
        token = secrets.token_urlsafe(TOKEN_BYTES)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(token + "\n")
        return token

    def announce(self, endpoint: Endpoint) -> None:
        """Say where this Serai is reached."""
        temporary = self.path / (ENDPOINT_FILE + ".new")
        temporary.write_text(json.dumps(asdict(endpoint)))
        temporary.replace(self.path / ENDPOINT_FILE)
        remember(self.path)

    def withdraw(self) -> None:
        forget(self.path)
        (self.path / ENDPOINT_FILE).unlink(missing_ok=True)

    def endpoint(self) -> Endpoint | None:
        """Return where the Serai of this folder is reached, or None."""
        try:
            return Endpoint(**json.loads((self.path / ENDPOINT_FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None
