"""Starts the worker processes, watches their heartbeats, starts them again, drains them.

It imports nothing heavy: it lives beside every replica for as long as the replica does.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from serai_runtime import clock
from serai_runtime.logs import Log
from serai_runtime.options import Options, to_json
from serai_runtime.watch import Seen, blocked, restart_delay_s

TURN_S = 0.25
DUMP_WAIT_S = 0.3
FORCE_AFTER_S = 10.0
EXIT_FAILED = 3


@dataclass
class _Worker:
    """One worker process and what it told."""

    index: int
    port: int
    process: subprocess.Popen[bytes] | None = None
    beat_fd: int = -1
    life_fd: int = -1
    phase: str = "starting"
    beat_at_s: float = 0.0
    restart_at_s: float | None = None
    restarts: int = 0
    blocked: bool = False
    buffer: bytes = b""
    last_exit: dict[str, Any] | None = None
    crashes_at_s: deque[float] = field(default_factory=lambda: deque(maxlen=20))


class Supervisor:
    """Runs until its workers have ended; `run` returns the exit status."""

    def __init__(self, options: Options) -> None:
        self._options = options
        facts = {"api": options.api, "version": options.version, "replica": options.replica}
        self._log = Log(options.log_format, facts)
        self._workers = [_Worker(index, port) for index, port in enumerate(options.ports)]
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._signals = 0
        self._failure: dict[str, str] | None = None
        self._written = ""

    def run(self) -> int:
        """Start everything and watch it; 0 after a clean stop, 3 when the predictor is unusable."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        for worker in self._workers:
            self._start(worker)
        while any(w.process is not None or w.restart_at_s is not None for w in self._workers):
            self._turn(wake_read)
        self._write_status()
        return EXIT_FAILED if self._failure is not None else 0

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals += 1
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        if self._signals > 1:
            for worker in self._workers:
                if worker.process is not None:
                    worker.process.kill()
            os._exit(130)
        self._stopping = True

    def _turn(self, wake_fd: int) -> None:
        for key, _ in self._selector.select(TURN_S):
            if key.data is None:
                os.read(wake_fd, 4096)
            else:
                self._read(key.data)
        now_s = clock.now_s()
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is not None:
                self._ended(worker, now_s)
            elif worker.process is not None and not self._stopping:
                self._check_beat(worker, now_s)
            elif worker.restart_at_s is not None and self._stopping:
                worker.restart_at_s = None
            elif worker.restart_at_s is not None and now_s >= worker.restart_at_s:
                worker.restarts += 1
                self._start(worker)
        self._write_status()

    # Starting ------------------------------------------------------------------------------------

    def _start(self, worker: _Worker) -> None:
        beat_read, beat_write = os.pipe()
        life_read, life_write = os.pipe()
        os.set_blocking(beat_read, False)
        command = [
            *(sys.executable, "-m", "serai_runtime.worker", to_json(self._options)),
            *(str(worker.index), str(beat_write), str(life_read)),
        ]
        worker.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=(beat_write, life_read),
            process_group=0,  # Ctrl-C reaches the supervisor alone, which passes it on once
        )
        os.close(beat_write)
        os.close(life_read)
        worker.beat_fd, worker.life_fd = beat_read, life_write
        worker.beat_at_s = clock.now_s()
        worker.phase, worker.restart_at_s, worker.buffer = "starting", None, b""
        worker.blocked = False
        self._selector.register(beat_read, selectors.EVENT_READ, worker)

    # Listening -----------------------------------------------------------------------------------

    def _read(self, worker: _Worker) -> None:
        try:
            data = os.read(worker.beat_fd, 65536)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(worker.beat_fd)
            return
        worker.beat_at_s = clock.now_s()
        *lines, worker.buffer = (worker.buffer + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode("utf-8", "replace").partition(" ")
            if word == "phase":
                worker.phase = rest
            elif word == "failure":
                self._failure = json.loads(rest)

    def _check_beat(self, worker: _Worker, now_s: float) -> None:
        seen = Seen(serving=worker.phase == "ready", beat_at_s=worker.beat_at_s)
        if not blocked(seen, now_s) or worker.process is None:
            return
        self._log(
            "event loop blocked",
            level="error",
            process=worker.index,
            silent_s=round(now_s - worker.beat_at_s, 1),
            why="an async predict that blocks holds up every request and probe of its process; "
            "its stack follows; make it a plain `def predict`, or await what takes long",
        )
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(signal.SIGUSR1)  # faulthandler writes the stack
            clock.block(DUMP_WAIT_S)
            worker.blocked = True
            worker.process.kill()

    # Ending --------------------------------------------------------------------------------------

    def _ended(self, worker: _Worker, now_s: float) -> None:
        assert worker.process is not None
        status = worker.process.returncode
        self._read_rest(worker)
        worker.process = None
        for fd in (worker.beat_fd, worker.life_fd):
            with contextlib.suppress(OSError):
                os.close(fd)
        name = signal.Signals(-status).name if status < 0 else None
        worker.last_exit = {
            "exit_code": status if status >= 0 else None,
            "signal": name,
            "at_s": clock.wall_s(),
        }
        worker.phase = "ended"
        if self._stopping and status == 0:
            return
        why = "its event loop was blocked" if worker.blocked else None
        facts = {"process": worker.index, "exit_code": worker.last_exit["exit_code"]}
        self._log("worker exited", level="error", **facts, signal=name, why=why)
        if self._stopping:
            return
        if status == EXIT_FAILED and self._failure is not None:
            self._give_up()
            return
        self._plan_restart(worker, status, name, now_s)

    def _read_rest(self, worker: _Worker) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._read(worker)
            self._selector.unregister(worker.beat_fd)

    def _plan_restart(self, worker: _Worker, status: int, name: str | None, now_s: float) -> None:
        worker.crashes_at_s.append(now_s)
        delay_s = restart_delay_s(tuple(worker.crashes_at_s), now_s)
        if delay_s is not None:
            worker.restart_at_s = now_s + delay_s
            return
        how = f"killed by {name}" if name else f"exit code {status}"
        self._failure = {
            "reason": f"the predictor's process ended {len(worker.crashes_at_s)} times within a "
            f"minute, last: {how}",
            "where": "",
        }
        self._give_up()

    def _give_up(self) -> None:
        """End the other workers too: a replica whose predictor is unusable is of no use."""
        self._stopping = True
        for worker in self._workers:
            worker.restart_at_s = None
            if worker.process is not None and worker.process.poll() is None:
                worker.process.terminate()

    # Telling -------------------------------------------------------------------------------------

    def _write_status(self) -> None:
        path = self._options.status_file
        if not path:
            return
        text = json.dumps(
            {
                "processes": [
                    {
                        "index": worker.index,
                        "pid": worker.process.pid if worker.process is not None else None,
                        "port": worker.port,
                        "phase": worker.phase,
                        "restarts": worker.restarts,
                        "last_exit": worker.last_exit,
                    }
                    for worker in self._workers
                ],
                "failure": self._failure,
            }
        )
        if text == self._written:
            return
        try:
            with open(path + ".new", "w") as file:
                file.write(text)
            os.replace(path + ".new", path)
            self._written = text
        except OSError as error:
            self._log("status not written", level="warning", why=str(error))
