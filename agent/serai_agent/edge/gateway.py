"""The gateway of one node: what is wanted becomes what HAProxy does, and its counters a reading."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from serai.clock import Clock
from serai.errors import ConfigError, Refused, Unavailable
from serai.model import Server
from serai.report import GatewayReading
from serai.routes import Route
from serai_agent.edge import config, front, process
from serai_agent.edge.answers import Seen, connections_of, parse_sections, parse_seen
from serai_agent.edge.believe import Belief, believe, unrouted
from serai_agent.edge.files import GatewayFiles, LastGood
from serai_agent.edge.layout import TABLE, SlotClass, slot_name
from serai_agent.edge.logsocket import LogSocket
from serai_agent.edge.outcomes import Outcomes
from serai_agent.edge.plan import Plan, owners, plan
from serai_agent.edge.reading import servers_of, unanswered_of, versions_of, worker_of
from serai_agent.edge.socket import ask, lines_of
from serai_agent.edge.startup import cold_start, files_of, grown, kept_lines, nothing_yet
from serai_agent.edge.tls import Certificate

log = logging.getLogger(__name__)

PASSES = 4
DOOR_LIMIT_S, DOOR_POLL_S = 1.0, 0.02
"""For connections that clients keep, or whose request has yet to arrive."""
NOT_MINE = "no HAProxy runs on this node: start its job or unit (serai-agent --gateway)"
OBSERVE = ("show stat -1 7 -1", "show servers state", f"show map {config.ROUTE_MAP}", "show info")
READ = (*OBSERVE, f"show table {TABLE}")


class HaproxyGateway:
    """Steers the HAProxy of a state folder, which outlives it."""

    def __init__(
        self,
        folder: Path,
        host: str,
        port: int,
        clock: Clock,
        run: str,
        program: str = "",
        slots: dict[SlotClass, int] | None = None,
        line_each_per_s: int = config.LINE_EACH_PER_S,
        starts: bool = True,
        certificate: Certificate | None = None,
    ) -> None:
        """`run` names the life of the counters; `program` is a HAProxy other than the one found.

        With `starts` False HAProxy is somebody else's to start: by `become`.
        """
        self._starts = starts
        self._clock = clock
        self._run = run
        found, self.version = process.find(program)
        self._process = process.HaproxyProcess(folder, found)
        self._files = GatewayFiles(folder)
        self._settings = config.EdgeSettings(
            host=host,
            port=port,
            threads=min(4, process.cores()),
            maxconn=process.computed_maxconn(),
            slots=dict(slots or config.DEFAULT_SLOTS),
            line_each_per_s=line_each_per_s,
            certificate=certificate,
        )
        self._outcomes = Outcomes()
        self._logs = LogSocket(folder / config.LOG_SOCKET, self._outcomes)
        self._belief = Belief()
        self._routes: tuple[Route, ...] = ()
        self._revisions: dict[str, int] = {}
        self._carried_out: LastGood | None = None
        self._problems: tuple[str, ...] = ()
        self._epochs: dict[str, int] = {}
        self._lock = asyncio.Lock()
        self.reloads = 0
        self.repairs = 0

    # Life ----------------------------------------------------------------------------------------

    async def start(self, draining: bool = False) -> None:
        """Attach to the HAProxy of this folder, or start one from what was last good.

        Unless `draining`, it is meant to serve, also one whose drain was broken off before.
        Raises ConfigError when the port is taken or the folder cannot be used, Unavailable when a
        HAProxy runs here but does not answer.
        """
        last = self._recall()
        self._files.write_state(draining)
        self._logs.open()
        try:
            if not self._starts and not await self._process.answers():
                log.warning("haproxy is not there yet", extra={"why": NOT_MINE})
                return
            async with self._lock:
                await self._attach_or_start(last)
                await self._show_state(draining)
        except BaseException:  # ended while it starts, too: the socket is the next one's
            self._logs.close()
            raise
        if last is not None:
            await self.apply(last.routes, last.servers)

    async def become(self) -> NoReturn:
        """Become this folder's HAProxy with what was last good, in the foreground.

        Raises ConfigError when it cannot be, or is there already.
        """
        last = self._recall()
        self._files.write_state(draining=False)
        if not await self._process.answers():
            self._write_files(last)
        await self._process.become()

    def _recall(self) -> LastGood | None:
        """Make the folder, and return what was carried out last."""
        self._files.make()
        last = self._files.recall()
        if last is not None:
            slots = {
                kind: last.slots.get(kind.label, n) for kind, n in self._settings.slots.items()
            }
            self._settings = replace(self._settings, slots=slots)
            self._carried_out = last
        return last

    async def _attach_or_start(self, last: LastGood | None) -> None:
        if await self._answers(last):
            log.info("attached to haproxy", extra={"version": self.version})
            if not self._files.are_made_from(self._settings):
                await self._reload("its settings are others now", await self._observe())
        else:
            await self._start_from(last)

    async def _answers(self, last: LastGood | None) -> bool:
        """Say whether HAProxy answers; one that cannot be asked any more is reloaded before."""
        with contextlib.suppress(Unavailable):
            return await self._process.answers()
        if await self._process.is_deaf():
            log.warning("haproxy's socket is gone: it is reloaded")
            self._write_files(last)
            await self._process.hear_again()
            self.reloads += 1
        return await self._process.answers()

    async def _start_from(self, last: LastGood | None) -> None:
        """Start HAProxy with all that is known, so that its first request is answered rightly."""
        if not self._starts:
            raise Unavailable(NOT_MINE)
        self._write_files(last)
        if await self._process.start(self._settings.host, self._settings.port):
            log.info("haproxy started", extra={"version": self.version})

    def _write_files(self, last: LastGood | None) -> None:
        routes, servers = (last.routes, last.servers) if last is not None else ((), ())
        lines, entries = cold_start(routes, servers, nothing_yet(self._settings))
        self._files.write(self._settings, lines, entries)

    def pid(self) -> int | None:
        """Return the process id of HAProxy's master while it runs."""
        return self._process.pid()

    @property
    def last_good(self) -> LastGood | None:
        """Return the orders carried out last, by an earlier process, too; None for none ever."""
        return self._carried_out

    async def drain(self) -> None:
        """Answer health checks with 503 from here on, and serve on; a new `start` ends it.

        Raises Unavailable when HAProxy does not answer.
        """
        async with self._lock:
            self._files.write_state(draining=True)
            await self._show_state(draining=True)

    async def _show_state(self, draining: bool) -> None:
        commands = [f"clear map {config.STATE_MAP}"]
        if draining:
            commands.append(f"add map {config.STATE_MAP} {config.DRAINING} 1")
        await self._command(commands)

    def detach(self) -> None:
        """Leave HAProxy running and let go of it."""
        self._logs.close()

    async def stop(self, grace_s: float) -> None:
        """End HAProxy; requests in flight finish within the grace.

        New connections are refused a moment before, so that clients go elsewhere: a HAProxy that is
        ending has no servers any more for a request that reaches it then.
        """
        with contextlib.suppress(Unavailable, TimeoutError):
            await self._shut_the_door()
            grace_s = await self._process.grace_without_connections_s(grace_s)
        await self._process.stop(grace_s)
        self._logs.close()

    async def _shut_the_door(self) -> None:
        """Refuse new connections; return when there is none left, TimeoutError when some stay."""
        async with asyncio.timeout(DOOR_LIMIT_S), self._lock:
            await self._command([f"disable frontend {front.PUBLIC}"])
            while connections_of(await ask(self._process.stats, "show info")) != 0:
                await self._clock.sleep(DOOR_POLL_S)

    # Wanted → real -------------------------------------------------------------------------------

    async def apply(
        self,
        routes: Sequence[Route],
        servers: Sequence[Server],
        elsewhere: frozenset[str] = frozenset(),
    ) -> None:
        """Make HAProxy agree with what is wanted, whatever state it is in.

        The servers' capacities are this gateway's shares; `elsewhere` names servers that are ready
        but only other gateways'. Raises Refused for a route of an epoch that is over, Unavailable
        when HAProxy does not answer.
        """
        for route in routes:
            if route.epoch < self._epochs.get(route.api, 0):
                told = f"the route of {route.api} is of an epoch before {self._epochs[route.api]}"
                raise Refused(told, "fenced")
        self._epochs = {route.api: route.epoch for route in routes}
        async with self._lock:
            await self._apply(tuple(routes), servers, elsewhere)

    async def _apply(
        self, routes: tuple[Route, ...], servers: Sequence[Server], elsewhere: frozenset[str]
    ) -> None:
        if not await self._answers(self._carried_out):
            if self._starts:
                log.warning("haproxy is gone: it is started again")
            await self._start_from(self._carried_out)
        self._process.bound_its_words()
        seen = await self._open_the_front(await self._observe())
        draining = frozenset(name for route in routes for name in route.draining)
        up = frozenset(server.name for server in seen.servers if server.up)
        routed = frozenset(route.api for route in routes)
        self._belief = believe(
            self._belief,
            servers,
            up,
            draining | elsewhere | unrouted(self._belief, routed),
            self._clock.now(),
        )
        trusted = self._belief.servers
        self._count_repairs(routes, trusted, seen)
        steps = await self._carry_out(routes, trusted, seen)
        self._routes = routes
        behind = steps.unsettled
        kept = {api: self._revisions[api] for api in behind & routed & self._revisions.keys()}
        done = {route.api: route.revision for route in routes if route.api not in behind}
        self._revisions = {**kept, **done}
        lacking = [f"no more slots of class {label}" for label in steps.target.growth]
        self._tell((*steps.target.problems, *lacking))
        if not behind:
            slots = {kind.label: count for kind, count in self._settings.slots.items()}
            self._carried_out = LastGood(routes=routes, servers=trusted, slots=slots)
            files = files_of(steps.target, routes)
            self._files.remember(self._carried_out, self._settings, *files)

    async def _carry_out(
        self, routes: Sequence[Route], servers: Sequence[Server], seen: Seen
    ) -> Plan:
        """Act and look again until nothing is left to do; return what is left all the same."""
        steps = plan(routes, servers, seen, config.ROUTE_MAP)
        for _ in range(PASSES):
            if steps.target.growth and await self._grow(steps.target.growth, seen):
                pass
            elif any(not command.leaving for command in steps.commands):
                await self._command([command.text for command in steps.commands])
            else:
                break
            seen = await self._observe()
            steps = plan(routes, servers, seen, config.ROUTE_MAP)
        if steps.commands:  # servers on their way out: each pass is one attempt
            await self._command([command.text for command in steps.commands if command.leaving])
        return steps

    async def _open_the_front(self, seen: Seen) -> Seen:
        """Let requests in again where somebody has shut them out; return what is there then."""
        commands = front.repairs(seen.front, self._settings.maxconn)
        if front.needs_reload(seen.front):
            await self._reload("its frontend was shut down", seen)
        elif commands:
            await self._command(commands)
        else:
            return seen
        self.repairs += max(1, len(commands))
        log.warning("requests were shut out: repaired", extra={"commands": commands})
        return await self._observe()

    def _count_repairs(
        self, routes: tuple[Route, ...], servers: tuple[Server, ...], seen: Seen
    ) -> None:
        """Count differences that nobody ordered: the orders are those carried out before."""
        last = self._carried_out
        if last is None or (last.routes, last.servers) != (routes, servers):
            return
        found = plan(routes, servers, seen, config.ROUTE_MAP).commands
        wrong = [command.text for command in found if not command.leaving]
        if wrong:
            self.repairs += len(wrong)
            log.warning("haproxy differs: repaired", extra={"commands": wrong[:10]})

    async def _command(self, commands: Sequence[str]) -> None:
        for line in lines_of(commands):
            answer = await ask(self._process.stats, line)
            refused = [told for told in answer.splitlines() if told and not _harmless(told)]
            if refused:
                # The next pass observes and plans anew; what is wrong shows again there.
                log.info("haproxy commands refused", extra={"why": refused[:10]})

    async def _observe(self) -> Seen:
        return parse_seen(parse_sections(await ask(self._process.stats, ";".join(OBSERVE))))

    def _tell(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self._problems:
                log.warning("order not carried out", extra={"why": problem})
        self._problems = problems

    # Growing -------------------------------------------------------------------------------------

    async def _grow(self, lacking: Mapping[str, int], seen: Seen) -> bool:
        """Double the slots of the classes that ran out; False when they may not grow further."""
        slots = grown(self._settings.slots, lacking)
        if slots == self._settings.slots:
            return False
        before = self._settings
        self._settings = replace(self._settings, slots=slots)
        try:
            await self._reload(f"more slots: {', '.join(lacking)}", seen)
        except (ConfigError, Unavailable):
            self._settings = before
            raise
        return True

    async def _reload(self, why: str, seen: Seen) -> None:
        """Let a new process take over that has everything the present one has."""
        lines = kept_lines(
            seen, {slot_name(k, n) for k, m in self._settings.slots.items() for n in range(m)}
        )
        self._files.write(self._settings, lines, seen.routes)
        await self._process.reload()
        self.reloads += 1
        log.info("haproxy reloaded", extra={"why": why})

    # Counters ------------------------------------------------------------------------------------

    async def read(self) -> GatewayReading:
        """Return the counters now; Unavailable when HAProxy does not answer."""
        async with self._lock:
            with self._outcomes.asking(self._process.pid(), self._clock.now()):
                present = worker_of(await ask(self._process.stats, ";".join(READ)))
                read_at_s = self._clock.now()
                retired = [worker_of(told) for told in await self._process.ask_old_workers(READ)]
        if present is None:
            raise Unavailable("HAProxy ended while it was asked")
        workers = [present, *(one for one in retired if one is not None)]
        used = owners(present.seen)
        self._outcomes.add_unanswered(unanswered_of(workers), used, present.pid)
        self._outcomes.keep(set(used.values()))
        return GatewayReading(
            run=self._run,
            ready=True,
            read_at_s=read_at_s,
            haproxy_version=self.version,
            revisions=dict(self._revisions),
            versions=versions_of(workers, [route.api for route in self._routes], self._outcomes),
            servers=servers_of(workers),
            reloads=self.reloads,
            repairs=self.repairs,
            log_lines_lost=self._outcomes.lost,
            slots_free=len(present.seen.slots) - len(used),
            problem="; ".join(self._problems)[:256],
        )


def _harmless(answer: str) -> bool:
    return answer.startswith(("New server registered", "Server deleted", "health was already"))
