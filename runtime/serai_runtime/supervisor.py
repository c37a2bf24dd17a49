"""Starts the worker processes, watches their heartbeats, starts them again, drains them.

It imports nothing heavy: it lives beside every replica for as long as the replica does.
"""

import contextlib
import json
import os
import selectors
import signal
from typing import Any

from serai_runtime import clock
from serai_runtime.child import Child, read_now
from serai_runtime.logs import Log
from serai_runtime.options import Options, to_json
from serai_runtime.state import EXIT_FAILED
from serai_runtime.watch import (
    BLOCKED_AFTER_S,
    Crash,
    Seen,
    blocked,
    ended_in_words,
    oom_kills,
    restart_delay_s,
    signal_name,
)

TURN_S = 0.25
LATE_S = 1.5
"""A turn that comes so late means that this process itself did not run."""
DUMP_WAIT_S = 0.3
ENDING_S = 20.0
"""How long a worker may take to end besides its delays: `close` has half of it."""
STACK_CHARS = 6000


class Supervisor:
    """Runs until its workers have ended; `run` returns the exit status."""

    def __init__(self, options: Options) -> None:
        self._options = options
        facts = {"api": options.api, "version": options.version, "replica": options.replica}
        self._log = Log(options.log_format, facts)
        self._children = [Child(index, port) for index, port in enumerate(options.ports)]
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._stop_by_s = 0.0
        self._failure: dict[str, str] | None = None
        self._written = ""
        self._oom_kills = _oom_kills()

    def run(self) -> int:
        """Start everything and watch it; 0 after a clean stop, 3 when the predictor is unusable."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        for child in self._children:
            self._start(child)
        self._turned_at_s = clock.now_s()
        while any(child.pid or child.restart_at_s is not None for child in self._children):
            self._turn(wake_read)
        self._write_status()
        return EXIT_FAILED if self._failure is not None else 0

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stopping:
            for child in self._children:
                child.kill()
            os._exit(130)
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        options = self._options
        wait_s = options.deregistration_delay_s + options.drain_limit_s + ENDING_S
        self._stop_by_s = clock.now_s() + wait_s
        for child in self._children:
            child.send(signal.SIGTERM)

    def _turn(self, wake_fd: int) -> None:
        for key, _ in self._selector.select(TURN_S):
            if key.data is None:
                os.read(wake_fd, 4096)
            else:
                self._read(key.data)
        now_s = clock.now_s()
        if now_s - self._turned_at_s > LATE_S:  # frozen itself: a child has to be heard first
            for child in self._children:
                child.beat_at_s = max(child.beat_at_s, now_s)
        self._turned_at_s = now_s
        for child in self._children:
            status = child.poll()
            if status is not None:
                self._ended(child, status, now_s)
            elif child.pid:
                self._check_beat(child, now_s)
            elif self._stopping:
                child.restart_at_s = None
            elif child.restart_at_s is not None and now_s >= child.restart_at_s:
                child.restarts += 1
                self._start(child)
        self._write_status()

    def _start(self, child: Child) -> None:
        child.start(to_json(self._options), clock.now_s())
        self._selector.register(child.beat_fd, selectors.EVENT_READ, child)

    # Listening -----------------------------------------------------------------------------------

    def _read(self, child: Child) -> None:
        data = read_now(child.beat_fd)
        if data == b"":
            self._selector.unregister(child.beat_fd)
        for word, rest in child.heard(data or b"", clock.now_s()):
            if word == "phase":
                child.phase = rest
                child.was_ready = child.was_ready or rest == "ready"
            elif word == "failure":
                self._failure = json.loads(rest)

    def _check_beat(self, child: Child, now_s: float) -> None:
        if self._stopping and now_s > self._stop_by_s:
            self._log("worker does not end", level="error", process=child.index)
            child.kill()
            return
        serving = child.phase in ("ready", "draining")
        if child.was_blocked or not blocked(Seen(serving, child.beat_at_s), now_s):
            return  # told once; a process that was killed may take a moment to go
        child.send(signal.SIGUSR1)  # faulthandler writes the stacks
        clock.block(DUMP_WAIT_S)
        self._log(
            f"event loop blocked for {BLOCKED_AFTER_S:g} s",
            level="error",
            process=child.index,
            why="it holds up every request and probe of its process. Usually an async predict "
            "calls what blocks: make it a plain `def predict`, which runs on a thread, or await "
            "it. A plain one does so by C code that keeps Python's lock (a regular expression, "
            "say): the stack shows where",
            stack=self._stacks(child),
        )
        child.was_blocked = True
        child.kill()

    def _stacks(self, child: Child) -> str:
        return (read_now(child.dump_fd) or b"").decode("utf-8", "replace")[-STACK_CHARS:]

    # Ending --------------------------------------------------------------------------------------

    def _ended(self, child: Child, status: int, now_s: float) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._read(child)
            self._selector.unregister(child.beat_fd)
        stack = self._stacks(child)
        child.close()
        how = self._how(child, status)
        signal_found = signal_name(status)
        child.last_exit = {
            "exit_code": status if status >= 0 else None,
            "signal": signal_found,
            "at": clock.wall_s(),
            "why": how,
        }
        child.phase = "failed" if status == EXIT_FAILED else "ended"
        if self._stopping and status in (0, -signal.SIGTERM):
            return  # a signal that came before it could listen to signals ends it, too
        facts: dict[str, Any] = {"exit_code": child.last_exit["exit_code"], "why": how}
        if stack and not child.was_blocked:
            facts["stack"] = stack
        self._log("worker exited", level="error", process=child.index, signal=signal_found, **facts)
        if self._stopping:
            return
        if status == EXIT_FAILED and self._failure is not None:
            self._give_up()
        else:
            self._plan_restart(child, how, stack, now_s)

    def _how(self, child: Child, status: int) -> str:
        if child.was_blocked:
            return "its event loop was blocked, so it was ended"
        before, self._oom_kills = self._oom_kills, _oom_kills()
        out_of_memory = status == -signal.SIGKILL and self._oom_kills > before
        return ended_in_words(status, out_of_memory)

    def _plan_restart(self, child: Child, how: str, stack: str, now_s: float) -> None:
        child.crashes.append(Crash(now_s, child.was_ready))
        delay_s = restart_delay_s(tuple(child.crashes), now_s)
        if delay_s is not None:
            child.restart_at_s = now_s + delay_s
            return
        self._failure = {
            "reason": f"the predictor's process ended {len(child.crashes)} times in a row before "
            f"it was ready; the last time: {how}",
            "log_tail": stack,
        }
        self._log("giving up", level="error", why=self._failure["reason"])
        self._give_up()

    def _give_up(self) -> None:
        """End the other workers too: a replica whose predictor is unusable is of no use."""
        self._stop()
        for child in self._children:
            child.restart_at_s = None

    # Telling -------------------------------------------------------------------------------------

    def _write_status(self) -> None:
        path = self._options.status_file
        if not path:
            return
        text = json.dumps(
            {
                "processes": [child.told() for child in self._children],
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
            self._written = text  # once is enough: the next change tries again


def _oom_kills() -> int:
    try:
        with open("/proc/vmstat") as file:
            return oom_kills(file.read())
    except OSError:
        return 0
