"""Keeps one replica: a small process of its own, so that replicas outlive the engine.

Run as `python -I -S -E keeper.py FOLDER LOCK_FD`. It starts what FOLDER/launch.json names, writes
its output to FOLDER/logs and its state to FOLDER/state.json, ends it on SIGTERM (SIGKILL after the
grace in FOLDER/stop.json), and leaves no process behind. While it lives it holds the lock that the
engine gave it: that, not a process id, tells whether it lives, and at no moment of its start is
the lock free. It imports only a few modules, so that a hundred of them cost little.
"""

import contextlib
import ctypes
import errno
import json
import math
import os
import select
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
READ_BYTES = 65536
TURN_S = 1.0
LAST_OUTPUT_S = 1.0
END_ALL_S = 5.0
OOM_WINDOW_S = 3.0
DEFAULT_GRACE_S = 10.0
UNREADABLE = (OSError, ValueError, KeyError)
OOM_FILES = ("/sys/fs/cgroup{}/memory.events", "/sys/fs/cgroup/memory{}/memory.oom_control")


def wall_s() -> float:
    """Return seconds since 1970: the keeper is alone and may not import Serai's clock."""
    return time.time()


def now_s() -> float:
    """Return monotonic seconds."""
    return time.monotonic()


def stamp(at_s: float) -> bytes:
    """Return a moment in UTC with microseconds."""
    whole, rest = divmod(round(at_s * 1e6), 10**6)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{rest:06d}Z", time.gmtime(whole)).encode()


class Lines:
    """Cuts one stream into lines; what passes the limit of a line is dropped and marked."""

    def __init__(self, letter: bytes, limit_bytes: int) -> None:
        self._letter = letter
        self._limit = limit_bytes
        self._rest = b""
        self._dropping = False

    def feed(self, data: bytes, at: bytes) -> bytes:
        """Return the lines that `data` completes, each with its time and stream."""
        *whole, rest = (self._rest + data).split(b"\n")
        if whole and self._dropping:
            self._dropping = False
            del whole[0]
        shown = [self._shown(line, at) for line in whole]
        if self._dropping:
            rest = b""
        elif len(rest) > self._limit:
            shown.append(self._shown(rest, at))
            self._dropping, rest = True, b""
        self._rest = rest
        return b"".join(shown)

    def finish(self, at: bytes) -> bytes:
        """Return the last line when it lacks its newline."""
        rest, self._rest = self._rest, b""
        return self._shown(rest, at) if rest else b""

    def _shown(self, line: bytes, at: bytes) -> bytes:
        if len(line) > self._limit:
            line = line[: self._limit] + b" [cut: the line is longer]"
        return b"%s %s %s\n" % (at, self._letter, line)


class LogFiles:
    """Numbered files in a folder: a full one is followed by the next, the oldest go.

    A file never changes its name, so that a reader's place (number, offset) stays true.
    """

    def __init__(self, folder: str, file_bytes: int, files: int) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._files = files
        self._numbers = sorted(int(n[:-4]) for n in os.listdir(folder) if n[:-4].isdigit())
        self._fd = -1
        self._size = 0
        self.lost_bytes = 0

    def write(self, data: bytes) -> None:
        """Append whole lines; a full disk loses them, counted, and never holds the replica up."""
        try:
            if self._fd < 0 or self._size >= self._file_bytes:
                self._next()
            while data:
                written = os.write(self._fd, data)
                self._size += written
                data = data[written:]
        except OSError:
            self.lost_bytes += len(data)
            if self._size > 0:
                self._size = self._file_bytes  # a torn line ends its file

    def _next(self) -> None:
        number = self._numbers[-1] + 1 if self._numbers else 1
        fresh = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fresh, 0
        self._numbers.append(number)
        while len(self._numbers) > self._files:
            with contextlib.suppress(OSError):
                os.unlink(self._path(self._numbers[0]))
            del self._numbers[0]

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:06d}.log"


class OomCounter:
    """Tells whether the kernel has ended something for lack of memory lately.

    The counter is that of the control group (version 2, else 1), else of the whole machine: it
    does not say which process, so it counts only beside a SIGKILL that nobody here sent.
    """

    def __init__(self, path: str) -> None:
        self._path = path or _oom_file()
        self._count = self._read()
        self.rose_at_s: float | None = None

    def sample(self, at_s: float) -> None:
        count = self._read()
        if count > self._count:
            self._count, self.rose_at_s = count, at_s

    def _read(self) -> int:
        try:
            with open(self._path) as file:
                for line in file:
                    word, _, number = line.partition(" ")
                    if word == "oom_kill":
                        return int(number)
        except (OSError, ValueError):
            pass
        return 0


def _oom_file() -> str:
    with contextlib.suppress(OSError), open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            form = OOM_FILES[0] if not controllers else OOM_FILES[1]
            found = form.format(path.rstrip("/"))
            if controllers in ("", "memory") and os.path.exists(found):
                return found
    return "/proc/vmstat"


def descendants(root: int) -> list[int]:
    """Return the living processes below `root`; none where there is no /proc."""
    parents: dict[int, int] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b") ")[2].split(b" ", 2)[:2]
                    if state not in (b"Z", b"X"):
                        parents[int(name)] = int(parent)
    found: list[int] = []
    below = {root}
    while below:
        below = {pid for pid, parent in parents.items() if parent in below}
        found += below
    return found


class Keeper:
    """The life of one child, from start to the last byte of its output."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        with open(f"{folder}/launch.json") as file:
            self._launch = json.load(file)
        limits = self._launch["log_file_bytes"], self._launch["log_files"]
        self._files = LogFiles(f"{folder}/logs", *limits)
        self._streams: dict[int, Lines] = {}
        self._poll = select.poll()
        self._ooms = OomCounter(self._launch.get("oom_file", ""))
        self._child = 0
        self._status: int | None = None
        self._stop_heard = self._stop_asked = False
        self._kill_at_s: float | None = None
        self._killed = False
        self._state: dict[str, object] = {"keeper_pid": os.getpid()}

    def start(self) -> None:
        """Spawn the child; raises OSError when the program cannot be run."""
        self._wake_fd, wake_write = os.pipe()  # pipes are not inherited, nor are files
        for fd in (self._wake_fd, wake_write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._poll.register(self._wake_fd, select.POLLIN)
        self._spawn()
        self._tell(child_pid=self._child, started_at_s=wall_s())
        # The engine writes an order to stop first and looks for our process id second.
        self._stop_heard = os.path.exists(f"{self._folder}/stop.json")

    def run(self) -> None:
        """Return when the child has ended, nothing of it is left and all is written down."""
        while self._status is None:
            self._turn(TURN_S)
        self._end_all()
        deadline_s = now_s() + LAST_OUTPUT_S
        while self._streams and now_s() < deadline_s:
            self._turn(0.05)
        for lines in self._streams.values():
            self._files.write(lines.finish(stamp(wall_s())))
        self._tell_end(self._status)

    # Starting ------------------------------------------------------------------------------------

    def _spawn(self) -> None:
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        fail_read, fail_write = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            self._become_child(out_write, err_write, fail_write)
        for fd in (out_write, err_write, fail_write):
            os.close(fd)
        for fd, letter in ((out_read, b"o"), (err_read, b"e")):
            os.set_blocking(fd, False)
            self._streams[fd] = Lines(letter, self._launch["log_line_bytes"])
            self._poll.register(fd, select.POLLIN)
        with os.fdopen(fail_read, "rb") as failed:
            number = failed.read()
        if number:
            os.waitpid(self._child, 0)
            raise OSError(int(number), os.strerror(int(number)), self._launch["command"][0])

    def _become_child(self, out_fd: int, err_fd: int, fail_fd: int) -> None:
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(out_fd, 1)
            os.dup2(err_fd, 2)
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
                file.write(str(self._launch["oom_score_adj"]))
            os.umask(0o022)
            os.chdir(self._launch["cwd"])
            command = self._launch["command"]
            os.execvpe(command[0], command, self._launch["env"])
        except OSError as error:
            os.write(fail_fd, str(error.errno or errno.ENOENT).encode())
        finally:
            os._exit(127)

    # Watching ------------------------------------------------------------------------------------

    def _turn(self, wait_s: float) -> None:
        if self._kill_at_s is not None:
            wait_s = min(wait_s, max(0.0, self._kill_at_s - now_s()))
        for fd, _ in self._poll.poll(wait_s * 1000):
            if fd == self._wake_fd:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, READ_BYTES)
            else:
                self._read(fd)
        self._ooms.sample(now_s())
        self._reap()
        if self._stop_heard and self._status is None:
            self._begin_stop()
        if self._kill_at_s is not None and now_s() >= self._kill_at_s and self._status is None:
            self._killed = True
            self._signal_group(signal.SIGKILL)
            self._kill_at_s = now_s() + TURN_S

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        at = stamp(wall_s())
        if data:
            return self._files.write(self._streams[fd].feed(data, at))
        self._files.write(self._streams.pop(fd).finish(at))
        self._poll.unregister(fd)
        os.close(fd)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._child:
                    self._status = status

    # Ending --------------------------------------------------------------------------------------

    def _on_term(self, number: int, frame: object) -> None:
        self._stop_heard = True

    def _begin_stop(self) -> None:
        """End the child's group politely; asked again, an earlier moment for SIGKILL counts."""
        self._stop_heard, again, self._stop_asked = False, self._stop_asked, True
        grace_s = DEFAULT_GRACE_S
        with contextlib.suppress(*UNREADABLE), open(f"{self._folder}/stop.json") as file:
            grace_s = float(json.load(file)["grace_s"])
        self._kill_at_s = min(self._kill_at_s or math.inf, now_s() + grace_s)
        if not again:
            self._signal_group(signal.SIGTERM)

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, number)

    def _end_all(self) -> None:
        self._signal_group(signal.SIGKILL)
        deadline_s = now_s() + END_ALL_S
        while (left := descendants(os.getpid())) and now_s() < deadline_s:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self._turn(0.02)

    def _tell_end(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        rose_at_s = self._ooms.rose_at_s
        recent = rose_at_s is not None and now_s() - rose_at_s < OOM_WINDOW_S
        self._tell(
            ended_at_s=wall_s(),
            exit_code=code if code >= 0 else None,
            signal=signal.Signals(-code).name if code < 0 else None,
            oom=recent and code == -signal.SIGKILL and not self._killed,
            stop_asked=self._stop_asked,
            killed=self._killed,
            log_bytes_lost=self._files.lost_bytes,
        )

    def _tell(self, **facts: object) -> None:
        self._state.update(facts)
        path = f"{self._folder}/state.json"
        with contextlib.suppress(OSError):  # a full disk: the lock still tells that it lives
            with open(path + ".new", "w") as file:
                json.dump(self._state, file)
            os.replace(path + ".new", path)


def keep(folder: str, told_fd: int) -> None:
    """Be the keeper: run the child, and say over `told_fd` how the start went."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        keeper = Keeper(folder)
        keeper.start()
    except UNREADABLE as error:
        os.write(told_fd, str(error).encode()[:1000])
        return
    os.close(told_fd)
    keeper.run()


def main() -> int:
    """Detach the keeper; 0 once its child runs, 1 with the reason on stderr."""
    folder = sys.argv[1]
    os.set_inheritable(int(sys.argv[2]), False)  # the lock is the keeper's, not its child's
    told_read, told_write = os.pipe()
    if os.fork() == 0:
        os.close(told_read)
        keep(folder, told_write)
        os._exit(0)
    os.close(told_write)
    with os.fdopen(told_read, "rb") as told:
        problem = told.read()
    sys.stderr.buffer.write(problem)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
