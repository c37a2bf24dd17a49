"""One worker process as its supervisor holds it: the process, its three pipes, what it told."""

import contextlib
import os
import signal
import sys
from collections import deque
from typing import Any

from serai_runtime.watch import Crash


def read_now(fd: int) -> bytes | None:
    """Return what a pipe holds; None when that is nothing yet, b"" when its writer has gone."""
    try:
        return os.read(fd, 65_536)
    except BlockingIOError:
        return None
    except OSError:
        return b""


class Child:
    """`pid` is 0 while no process runs."""

    def __init__(self, index: int, port: int) -> None:
        self.index = index
        self.port = port
        self.pid = 0
        self.beat_fd = self.dump_fd = self._life_fd = -1
        self._buffer = b""
        self.phase = "starting"
        self.beat_at_s = 0.0
        self.restart_at_s: float | None = None
        self.restarts = 0
        self.was_ready = False
        self.was_blocked = False
        self.last_exit: dict[str, Any] | None = None
        self.crashes: deque[Crash] = deque(maxlen=20)

    def start(self, options: str, now_s: float) -> None:
        """Start the process; it ends when this one does, since that closes its life pipe."""
        self.beat_fd, beat_write = os.pipe()
        self.dump_fd, dump_write = os.pipe()
        life_read, self._life_fd = os.pipe()
        for fd in (self.beat_fd, self.dump_fd):
            os.set_blocking(fd, False)
        theirs = (beat_write, life_read, dump_write)
        for fd in theirs:
            os.set_inheritable(fd, True)
        # -P: the working directory is the user's, whose files must not stand in for the library's.
        command = [sys.executable, "-P", "-u", "-m", "serai_runtime.worker", options]
        command += [str(self.index), *map(str, theirs)]
        self.pid = os.posix_spawn(
            sys.executable,
            command,
            os.environ,
            setpgroup=0,  # Ctrl-C reaches the supervisor alone, which passes it on once
            setsigdef=(signal.SIGCHLD,),
            file_actions=((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),),
        )
        for fd in theirs:
            os.close(fd)
        self._buffer, self.beat_at_s = b"", now_s
        self.phase, self.restart_at_s = "starting", None
        self.was_ready = self.was_blocked = False

    def heard(self, data: bytes, now_s: float) -> list[tuple[str, str]]:
        """Return the words that came with `data`, each with the rest of its line."""
        if data:
            self.beat_at_s = now_s
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        parts = (line.decode("utf-8", "replace").partition(" ") for line in lines)
        return [(word, rest) for word, _, rest in parts]

    def poll(self) -> int | None:
        """Return how the process ended, as subprocess counts: negative for a signal."""
        if not self.pid:
            return None
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self.pid, 0
        return os.waitstatus_to_exitcode(status) if pid else None

    def send(self, number: int) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process and what it has started, at once."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Forget an ended process; what it had started and left behind ends, too."""
        self.kill()
        self.pid = 0
        for fd in (self.beat_fd, self.dump_fd, self._life_fd):
            with contextlib.suppress(OSError):
                os.close(fd)

    def told(self) -> dict[str, Any]:
        """Return the state as the status file tells it."""
        return {
            "index": self.index,
            "pid": self.pid or None,
            "port": self.port,
            "phase": self.phase,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
        }
