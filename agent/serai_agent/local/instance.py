"""One replica on this machine: its preparation, its keeper, its probes, as one task."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from serai.clock import Clock
from serai.errors import Refused, SeraiError, Unavailable
from serai.model import TERMINAL, Exit, Replica, ReplicaState, Server, server_id
from serai_agent.local import keeper
from serai_agent.local.command import Place, capacities, command_for
from serai_agent.local.folder import Order, ReplicaFolder
from serai_agent.local.health import Health, probed
from serai_agent.local.logs import Source
from serai_agent.local.prepare import Prepare

PROBE_LIMIT_S = 2.0
FAST_PROBE_S = 0.05
"""How often a replica that is not ready yet is asked: a start must not wait for a slow period."""
POLL_S = 0.1
PREPARE_RETRY_S = 5.0
LOG_TAIL = 20
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


@dataclass
class Probes:
    """The health of each server and the phase that the replica told last."""

    health: list[Health]
    phase: str = ""
    ready_at_s: float | None = None
    state: ReplicaState = ReplicaState.PENDING
    reason: str = ""
    stopping: bool = False
    exit: Exit | None = None
    ended_at_s: float | None = None
    log_tail: tuple[str, ...] = field(default=())


class Instance:
    """Runs one order; `changed` is called whenever `view` would give something new."""

    def __init__(
        self,
        order: Order,
        folder: ReplicaFolder,
        node: str,
        clock: Clock,
        session: aiohttp.ClientSession,
        changed: Callable[[], None],
    ) -> None:
        self.order = order
        self.folder = folder
        self._node = node
        self._clock = clock
        self._session = session
        self._changed = changed
        self._told = Probes(health=[Health() for _ in order.ports])
        self._kill = asyncio.Event()

    # Seen from outside ---------------------------------------------------------------------------

    def view(self) -> Replica:
        """Return the replica as it is now."""
        told, version = self._told, self.order.version
        return Replica(
            id=self.order.replica,
            api=version.api,
            version=version.name,
            node=self._node,
            state=told.state,
            reason=told.reason,
            created_at_s=self.order.created_at_s,
            ready_at_s=told.ready_at_s,
            ended_at_s=told.ended_at_s,
            exit=told.exit,
            restarts=self.folder.runtime_restarts(),
            log_tail=told.log_tail,
            servers=self._servers() if told.state is ReplicaState.READY else (),
        )

    @property
    def ended(self) -> bool:
        return self._told.state in TERMINAL

    def pid(self) -> int | None:
        """Return the keeper's process id while it lives."""
        state = self.folder.state()
        return state.keeper_pid if state is not None and state.keeper_lives else None

    def _servers(self) -> tuple[Server, ...]:
        version = self.order.version
        return tuple(
            Server(
                id=server_id(self.order.replica, index),
                replica=self.order.replica,
                api=version.api,
                version=version.name,
                host="127.0.0.1",
                port=port,
                capacity=capacity,
            )
            for index, (port, capacity) in enumerate(
                zip(self.order.ports, capacities(version), strict=True)
            )
            if self._told.health[index].ready
        )

    def _enter(self, state: ReplicaState, reason: str = "") -> None:
        if (state, reason) != (self._told.state, self._told.reason):
            self._told.state, self._told.reason = state, reason
            self._changed()

    # Its life ------------------------------------------------------------------------------------

    async def run(self, prepare: Prepare) -> None:
        """Bring it up and watch it to its end."""
        try:
            await self._bring_up(prepare)
        except (Refused, OSError) as error:
            self._end(ReplicaState.FAILED, str(error), None)
            return
        if not self.ended:
            await self.watch()

    async def _bring_up(self, prepare: Prepare) -> None:
        while not self._told.stopping:
            try:
                project, python = await prepare(
                    self.order.version, lambda why: self._enter(ReplicaState.PENDING, why)
                )
                break
            except Unavailable as error:
                self._enter(ReplicaState.PENDING, f"{error}; it is tried again")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._kill.wait(), PREPARE_RETRY_S)
        if self._told.stopping:
            self._end(ReplicaState.STOPPED, "stopped before it was started", None)
            return
        self._enter(ReplicaState.STARTING)
        self._spawn(project, python)

    def _spawn(self, project: Path, python: Path | None) -> None:
        inherited = {key: os.environ[key] for key in INHERITED if key in os.environ}
        place = Place(self.folder.path, project, python, self.order.ports)
        command = command_for(self.order.replica, self.order.version, place, inherited)
        predictor = self.order.version.content.predictor
        if predictor is not None:
            (self.folder.path / "config.json").write_text(json.dumps(predictor.config))
        self.folder.write_command(command.arguments, command.environment, command.folder)
        subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(self.folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder.path / "keeper.err").open("wb"),
            env=inherited,
            start_new_session=True,
        )

    async def watch(self) -> None:
        """Probe until the program has ended; also used for an adopted replica."""
        async with asyncio.TaskGroup() as group:
            probing = [
                group.create_task(self._probe_server(index))
                for index in range(len(self.order.ports))
            ]
            await self._until_ended()
            for task in probing:
                task.cancel()

    async def _until_ended(self) -> None:
        waited_s = 0.0
        while True:
            state = self.folder.state()
            if state is not None and state.ended_at_s is not None:
                self._program_ended(state.exit, state.asked, state.why, state.ended_at_s)
                return
            if state is not None and not state.keeper_lives:
                await self._keeper_lost(state.pid)
                return
            if state is None and waited_s > PREPARE_RETRY_S:
                why = (self.folder.path / "keeper.err").read_text(errors="replace")[-500:]
                self._end(ReplicaState.FAILED, f"its keeper did not start: {why}", None)
                return
            await self._clock.sleep(POLL_S)
            waited_s += POLL_S

    def _program_ended(self, how: Exit, asked: bool, why: str, at_s: float) -> None:
        if asked or self._told.stopping:
            self._end(ReplicaState.STOPPED, "stopped", how, at_s)
            return
        reason = self.folder.runtime_failure() or why or f"it ended by itself: {how}"
        self._end(ReplicaState.FAILED, reason, how, at_s)

    async def _keeper_lost(self, pid: int) -> None:
        """The keeper was killed: without it the program has no logs and no end; finish it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        self._end(ReplicaState.FAILED, "its keeper was killed", None)

    def _end(
        self, state: ReplicaState, reason: str, how: Exit | None, at_s: float | None = None
    ) -> None:
        self._told.exit = how
        self._told.ended_at_s = at_s if at_s is not None else self._clock.wall()
        if state is ReplicaState.FAILED:
            version = self.order.version
            source = Source(self.order.replica, version.name, self.folder.logs)
            self._told.log_tail = tuple(line.text for line in source.tail(LOG_TAIL))
        self.folder.mark_ended(self._told.ended_at_s, f"{state.value} {reason}")
        self.folder.clean()
        self._enter(state, reason)

    def recall(self, at_s: float, why: str) -> None:
        """Take up the record of a replica that ended before this process began."""
        word, _, reason = why.partition(" ")
        self._told.ended_at_s = at_s
        keeper_state = self.folder.state()
        self._told.exit = keeper_state.exit if keeper_state else None
        self._told.state = (
            ReplicaState.FAILED if word == ReplicaState.FAILED else ReplicaState.STOPPED
        )
        self._told.reason = reason

    # Stopping ------------------------------------------------------------------------------------

    def stop(self, grace_s: float) -> None:
        """Ask it to end; asking again changes nothing."""
        if self.ended or self._told.stopping:
            return
        self._told.stopping = True
        self._kill.set()
        self.folder.set_grace(grace_s)
        pid = self.pid()
        if pid is not None:
            self._enter(ReplicaState.DRAINING, "finishes what is in flight")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    # Probing -------------------------------------------------------------------------------------

    async def _probe_server(self, index: int) -> None:
        readiness = self.order.version.content.readiness
        while True:
            passed, phase = await self._probe(self.order.ports[index], readiness.path)
            if self._told.stopping and self.pid() is not None:
                self.stop_again()
            before = self._told.health[index]
            self._told.health[index] = probed(before, passed, readiness.failures)
            self._follow(phase, self._told.health[index].ready != before.ready)
            ready = self._told.health[index].ready
            await self._clock.sleep(readiness.period.seconds if ready else FAST_PROBE_S)

    def stop_again(self) -> None:
        """Pass a stop on that came before the keeper could hear it."""
        if self._told.state is not ReplicaState.DRAINING:
            self._told.stopping = False
            grace = self.folder.path / "grace"
            self.stop(float(grace.read_text()) if grace.exists() else 0.0)

    async def _probe(self, port: int, path: str) -> tuple[bool, str]:
        try:
            async with (
                asyncio.timeout(PROBE_LIMIT_S),
                self._session.get(f"http://127.0.0.1:{port}{path}") as response,
            ):
                raw = await response.content.read(1024)
                return response.status < 400, _phase(raw)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False, ""

    def _follow(self, phase: str, changed: bool) -> None:
        told = self._told
        if told.stopping or self.ended:
            return
        ready = sum(health.ready for health in told.health)
        if ready and told.ready_at_s is None and ready == len(told.health):
            told.ready_at_s = self._clock.wall()
        if ready == len(told.health) or (ready and told.ready_at_s is not None):
            missing = len(told.health) - ready
            self._enter(
                ReplicaState.READY, f"{missing} of its processes restart" if missing else ""
            )
            if changed:
                self._changed()
        elif phase:
            self._enter(ReplicaState.LOADING, phase)
        elif told.state is ReplicaState.READY:
            self._enter(ReplicaState.LOADING, "does not answer its readiness probe")


def _phase(raw: bytes) -> str:
    try:
        told = json.loads(raw)
    except ValueError:
        return ""
    return str(told.get("phase", ""))[:60] if isinstance(told, dict) else ""


def free_ports(count: int) -> tuple[int, ...]:
    """Return ports of 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(probe.getsockname()[1] for probe in probes)


__all__ = ["Instance", "SeraiError", "free_ports"]
