"""One replica from its order to its end, as one task."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import msgspec

from serai import wire
from serai.clock import Clock, backoff
from serai.ended import found_its_port_taken
from serai.errors import ConfigError, Refused, Unavailable
from serai.logfiles import last_lines
from serai.model import Replica, ReplicaState, Server
from serai.probe import Prober
from serai.readiness import Verdict
from serai.tasks import cancelled
from serai_agent.local.body import Body
from serai_agent.local.folder import Order, Ready, ReplicaFolder, RuntimeStatus
from serai_agent.local.health import Health, after, probe_period_s
from serai_agent.local.judge import End, Facts, Step, loads, serves, state_of
from serai_agent.local.logline import Source
from serai_agent.local.place import Cache
from serai_agent.local.settings import LocalSettings

log = logging.getLogger(__name__)
T = TypeVar("T")

TURN_S = 0.1
TURN_READY_S = 0.25
LOADING_TURN_S = 0.02
LOADING_PROBE_S = 1.0


@dataclass(frozen=True)
class Surroundings:
    """What all replicas of an engine share."""

    node: str
    clock: Clock
    settings: LocalSettings
    cache: Cache
    prober: Prober
    changed: Callable[[], None]


class LocalReplica:
    """Runs one order; `view` shows how it is."""

    def __init__(
        self, order: Order, folder: ReplicaFolder, body: Body, around: Surroundings
    ) -> None:
        self.order = order
        self._folder = folder
        self._body = body
        self._around = around
        self._step: Step | None = Step("waiting to be started", around.clock.now())
        self._health: list[Health] = []
        self._grace_s: float | None = None
        self._stopped = asyncio.Event()
        self._ready_at_s: float | None = None
        self._clash = False
        self._final: Replica | None = None
        self._shown: tuple[object, ...] = ()

    # Seen from outside ---------------------------------------------------------------------------

    @property
    def final(self) -> Replica | None:
        """Return its record once it has ended."""
        return self._final

    @property
    def source(self) -> Source:
        """Return where its log lines are."""
        return Source(
            replica=self.order.replica,
            version=self.order.version.name,
            folder=str(self._folder.logs),
        )

    def roots(self) -> tuple[int, ...]:
        """Return the processes above all of its processes; none when nothing runs."""
        return self._body.roots() if self._final is None and self._step is None else ()

    def view(self) -> Replica:
        """Return the replica as it is now."""
        if self._final is not None:
            return self._final
        facts = self._facts()
        state, reason = state_of(facts)
        status = facts.status
        return msgspec.structs.replace(
            self._record(state, reason),
            restarts=sum(p.restarts for p in status.processes) if status is not None else 0,
            servers=self._ready_servers(status),
        )

    def stop(self, grace_s: float) -> None:
        """Ask it to end; asked again, a shorter grace counts."""
        if self._final is not None or (self._grace_s is not None and self._grace_s <= grace_s):
            return
        self._grace_s = grace_s
        self._stopped.set()
        if self._step is None:
            self._body.ask_to_end(grace_s)
        self._note()

    def _facts(self) -> Facts:
        return Facts(
            step=self._step,
            health=tuple(self._health),
            status=self._body.status(),
            stopping=self._grace_s is not None,
            was_ready=self._ready_at_s is not None,
            now_s=self._around.clock.now(),
            wall_s=self._around.clock.wall(),
        )

    def _record(self, state: ReplicaState, reason: str) -> Replica:
        version = self.order.version
        return Replica(
            id=self.order.replica,
            api=version.api,
            version=version.name,
            node=self._around.node,
            state=state,
            reason=reason,
            created_at_s=self.order.created_at_s,
            ready_at_s=self._ready_at_s,
        )

    def _ready_servers(self, status: RuntimeStatus | None) -> tuple[Server, ...]:
        if self._grace_s is not None or self._step is not None:
            return ()
        return tuple(
            server
            for index, server in enumerate(self._body.servers())
            if index < len(self._health) and self._health[index].up and serves(status, index)
        )

    def _note(self) -> None:
        """Tell the engine's owner when something changed that matters to routing."""
        self._note_ready()
        view = self.view()
        shown = (view.state, view.servers, view.restarts)
        if shown != self._shown:
            self._shown = shown
            self._around.changed()

    def _note_ready(self) -> None:
        """Keep the time at which all of its servers are listed, the first time that they are."""
        if self._ready_at_s is not None or not self._health:
            return
        if len(self._ready_servers(self._body.status())) == len(self._health):
            self._ready_at_s = self._around.clock.wall()
            with contextlib.suppress(Unavailable):  # it only matters to a later engine
                self._folder.write("ready.json", wire.encode(Ready(at_s=self._ready_at_s)))

    # Its life ------------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Take up what an earlier engine started.

        Servers that were ready count as ready until a probe says otherwise, so that traffic goes
        on undisturbed.
        """
        if not self._body.adopt():
            return
        self._step = None
        if (ready := self._folder.ready()) is not None:
            self._ready_at_s = ready.at_s
        up = ready is not None
        self._health = [Health(up=up, was_up=up) for _ in self._body.servers()]
        if (stop := self._folder.stop()) is not None:
            self.stop(stop.grace_s)

    async def run(self) -> None:
        """Return when it has ended and its record is written."""
        if self._final is not None:
            return
        if self._step is not None:
            self.adopt()  # after a fault, or on the way back from one, it may run already
        try:
            if self._step is not None and not await self._bring_up():
                await self._finish(End(ReplicaState.STOPPED, "stopped before it was started", None))
                return
            await self._live()
        except (ConfigError, Refused) as error:
            await self._finish(End(ReplicaState.FAILED, str(error), None))

    async def _bring_up(self) -> bool:
        """Start it, however often that takes; False when it was stopped before."""
        delays = backoff(Random(self.order.replica), first_s=1.0, cap_s=30.0)
        while True:
            try:
                place = await self._unless_stopped(
                    self._around.cache.place(self.order.version, self._tell)
                )
                if place is None:
                    return False
                self._tell("starting its process")
                await self._body.launch(place)
            except Unavailable as error:
                self._tell(f"{error}; it is tried again")
                await self._unless_stopped(self._around.clock.sleep(next(delays)))
                if self._stopped.is_set():
                    return False
                continue
            self._step = None
            self._health = [Health() for _ in self._body.servers()]
            if self._grace_s is not None:
                self._body.ask_to_end(self._grace_s)
            return True

    def _tell(self, text: str) -> None:
        if self._step is None or self._step.text != text:
            self._step = Step(text, self._around.clock.now())

    async def _unless_stopped(self, work: Awaitable[T]) -> T | None:
        """Return what `work` gives, or None (and end it) once the replica is stopped."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            await cancelled(working, stopping)

    async def _live(self) -> None:
        while True:
            await self._watch()
            stop_asked = self._grace_s is not None
            end = await self._body.end(stop_asked=stop_asked)
            again = self._clash or self._lost_its_port(end)
            if not stop_asked and again and self._body.may_launch_again():
                log.warning("port was taken", extra={"replica": self.order.replica})
                self._clash, self._step = False, Step("taking other ports", self._now())
                if await self._bring_up():
                    continue
                end = End(ReplicaState.STOPPED, "", None)
            elif self._clash and not stop_asked:
                why = "other programs took its ports again and again"
                end = End(ReplicaState.FAILED, why, end.exit)
            await self._finish(end)
            return

    def _now(self) -> float:
        return self._around.clock.now()

    def _lost_its_port(self, end: End) -> bool:
        if end.state is not ReplicaState.FAILED or self._ready_at_s is not None:
            return False
        return found_its_port_taken([end.reason, *self._tail()])

    def _tail(self) -> tuple[str, ...]:
        lines = last_lines(self.source, self._around.settings.log_tail_lines)
        return tuple(line.text for line in lines)

    async def _finish(self, end: End) -> None:
        self._health = []  # none of its servers is listed from here on
        status = self._body.status()
        failed = end.state is ReplicaState.FAILED
        final = msgspec.structs.replace(
            self._record(end.state, end.reason),
            ended_at_s=self._around.clock.wall(),
            exit=end.exit,
            restarts=sum(p.restarts for p in status.processes) if status is not None else 0,
            log_tail=await asyncio.to_thread(self._tail) if failed else (),
        )
        facts = {"replica": self.order.replica, "state": end.state.value, "why": end.reason}
        log.log(logging.WARNING if failed else logging.INFO, "replica ended", extra=facts)
        try:
            self._folder.write("ended.json", wire.encode(final))
        except Unavailable as error:  # the next engine works it out again from the keeper's state
            log.warning("record not written", extra={**facts, "why": str(error)})
        await self._body.clear()
        self._final = final
        self._note()

    # Watching ------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Probe its servers until it has ended."""
        servers = self._body.servers()
        async with asyncio.TaskGroup() as group:
            probing = [
                group.create_task(self._probe(index, server))
                for index, server in enumerate(servers)
            ]
            while not self._body.ended():
                self._note()
                quiet = self._ready_at_s is not None and self._grace_s is None
                await self._around.clock.sleep(TURN_READY_S if quiet else TURN_S)
            for task in probing:
                task.cancel()

    async def _probe(self, index: int, server: Server) -> None:
        content = self.order.version.content
        readiness, inside = content.readiness, content.inner_port
        period_s, began_s = readiness.period.seconds, self._now()
        known = False
        while not self._clash:
            verdict, said = await self._around.prober.ask(server, readiness.path, inside)
            if verdict is not Verdict.REFUSED and not known:
                if await self._body.stranger_on(server.port):
                    self._clash = True
                    self._body.ask_to_end(0.0)
                    return
                known = True
            self._heed(index, verdict, said)
            age_s = self._now() - began_s
            await self._pause(index, probe_period_s(self._health[index], period_s, age_s))

    async def _pause(self, index: int, period_s: float) -> None:
        """Wait for the next probe; while the runtime tells that it loads, for it to tell more.

        A probe takes Python's lock from the thread that loads, so that needless ones delay it.
        """
        clock = self._around.clock
        if not loads(self._body.status(), index):
            await clock.sleep(period_s)
            return
        until_s = clock.now() + max(period_s, LOADING_PROBE_S)
        while loads(self._body.status(), index) and clock.now() < until_s:
            await clock.sleep(LOADING_TURN_S)

    def _heed(self, index: int, verdict: Verdict, said: str) -> None:
        failures = self.order.version.content.readiness.failures
        self._health[index] = after(self._health[index], verdict, failures, said=said)
        self._note()
