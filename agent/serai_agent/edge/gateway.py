"""The gateway of one node: what is wanted becomes what HAProxy does, and its counters a reading."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serai import wire
from serai.clock import Clock
from serai.errors import ConfigError, Refused, Unavailable
from serai.model import Server, Value
from serai.report import GatewayReading, ServerTraffic, VersionTraffic
from serai.routes import Route
from serai_agent.edge import config, process
from serai_agent.edge.answers import (
    Seen,
    parse_info,
    parse_map,
    parse_servers,
    parse_stat,
    parse_table,
)
from serai_agent.edge.believe import Belief, believe
from serai_agent.edge.layout import CLASSES, TABLE, SlotClass
from serai_agent.edge.logsocket import LogSocket
from serai_agent.edge.outcomes import Outcomes, Sums
from serai_agent.edge.plan import in_flight_of, owners, plan
from serai_agent.edge.socket import ask

log = logging.getLogger(__name__)

PASSES = 3
MAX_SLOTS_PER_CLASS = 4096


class LastGood(Value):
    """What is kept on disk, so that a gateway starts from it without scheduler or registry."""

    routes: tuple[Route, ...]
    servers: tuple[Server, ...]
    slots: dict[str, int]


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
    ) -> None:
        """`run` names the life of the counters; `program` is a HAProxy other than the one found."""
        self._folder = folder
        self._clock = clock
        self._run = run
        found, self.version = process.find(program)
        self._process = process.HaproxyProcess(folder, found)
        self._settings = config.EdgeSettings(
            folder=folder,
            host=host,
            port=port,
            threads=min(4, _cores()),
            maxconn=process.computed_maxconn(),
            slots=dict(slots or config.DEFAULT_SLOTS),
        )
        self._outcomes = Outcomes()
        self._logs = LogSocket(folder / "log.sock", self._outcomes)
        self._map = str(folder / "route.map")
        self._belief = Belief()
        self._routes: dict[str, Route] = {}
        self._revisions: dict[str, int] = {}
        self._epoch = 0
        self._lock = asyncio.Lock()
        self._requests_base: int | None = None
        self.reloads = 0
        self.repairs = 0
        self._saved = b""

    async def start(self) -> None:
        """Attach to the HAProxy of this folder, or start one from what was last good."""
        self._folder.mkdir(parents=True, exist_ok=True)
        last = self._recall()
        self._logs.open()
        if await self._process.answers():
            log.info("attached to haproxy", extra={"version": self.version})
        else:
            self._write_config({})
            await self._process.start(self._settings.host, self._settings.port)
            log.info("haproxy started", extra={"version": self.version})
        if last is not None:
            await self.apply(last.routes, last.servers)

    def pid(self) -> int | None:
        """Return the process id of HAProxy's master while it runs."""
        return self._process.pid()

    def detach(self) -> None:
        """Leave HAProxy running and let go of it."""
        self._logs.close()

    async def stop(self, grace_s: float) -> None:
        """End HAProxy; requests in flight finish within the grace."""
        await self._process.stop(grace_s)
        self._logs.close()

    # Wanted → real -------------------------------------------------------------------------------

    async def apply(self, routes: Sequence[Route], servers: Sequence[Server]) -> None:
        """Make HAProxy agree with what is wanted, whatever state it is in.

        Raises Refused for an epoch that is over, Unavailable when HAProxy does not answer.
        """
        epoch = max((route.epoch for route in routes), default=self._epoch)
        if any(route.epoch < self._epoch for route in routes):
            raise Refused(f"these routes are of an epoch before {self._epoch}", "fenced")
        self._epoch = epoch
        async with self._lock:
            await self._apply(routes, servers)

    async def _apply(self, routes: Sequence[Route], servers: Sequence[Server]) -> None:
        if not await self._process.answers():
            await self._start_again()
        seen = await self._observe()
        draining = frozenset(name for route in routes for name in route.draining)
        up = frozenset(server.name for server in seen.servers if server.up)
        self._belief = believe(self._belief, servers, up, draining, self._clock.now())
        trusted = self._belief.servers
        for attempt in range(PASSES):
            steps = plan(routes, trusted, seen, self._map)
            if steps.growth:
                await self._grow(steps.growth, seen)
            elif steps.commands:
                await self._command(steps.commands)
            else:
                break
            seen = await self._observe()
            if attempt:
                self.repairs += 1
        self._routes = {route.api: route for route in routes}
        self._revisions = {route.api: route.revision for route in routes}
        self._save(routes, trusted)

    async def _command(self, commands: Sequence[str]) -> None:
        for command in commands:
            answer = (await ask(self._process.stats, command)).strip()
            if answer and not _harmless(answer):
                # The next pass observes and plans anew; what is wrong shows again there.
                log.info("haproxy command refused", extra={"command": command, "why": answer})

    async def _observe(self) -> Seen:
        stats = self._process.stats
        slots, rows = parse_stat(await ask(stats, "show stat -1 6 -1"))
        servers = parse_servers(await ask(stats, "show servers state"), rows)
        return Seen(parse_map(await ask(stats, f"show map {self._map}")), servers, slots)

    # Starting, growing ---------------------------------------------------------------------------

    async def _start_again(self) -> None:
        log.warning("haproxy is gone: it is started again")
        self._write_config({})
        await self._process.start(self._settings.host, self._settings.port)

    async def _grow(self, labels: Sequence[str], seen: Seen) -> None:
        """Double the slots of the classes that ran out, in one reload that keeps everything."""
        slots = dict(self._settings.slots)
        for kind in CLASSES:
            if kind.label in labels:
                slots[kind] = min(2 * slots[kind], MAX_SLOTS_PER_CLASS)
        self._settings = replace(self._settings, slots=slots)
        lines: dict[str, tuple[config.ServerLine, ...]] = {}
        for server in seen.servers:
            if not server.maintenance:
                line = config.ServerLine(
                    server.name, server.id, server.address, server.maxconn, server.drain
                )
                lines[server.slot] = (*lines.get(server.slot, ()), line)
        self._write_config(lines, seen.routes)
        await self._process.reload()
        self.reloads += 1
        log.info("haproxy reloaded", extra={"why": f"more slots: {', '.join(labels)}"})

    def _write_config(
        self,
        servers: dict[str, tuple[config.ServerLine, ...]],
        routes: dict[str, str] | None = None,
    ) -> None:
        try:
            shutil.copyfile(Path(__file__).parent / "hold.lua", self._folder / "hold.lua")
            lines = [f"{key} {value}\n" for key, value in (routes or {}).items()]
            (self._folder / "route.map").write_text("".join(lines))
            (self._folder / "haproxy.cfg").write_text(config.render(self._settings, servers))
        except OSError as error:
            raise Unavailable(f"cannot write HAProxy's configuration: {error}") from error

    def _recall(self) -> LastGood | None:
        try:
            last = wire.decode((self._folder / "last.json").read_bytes(), LastGood)
        except (OSError, ConfigError):
            return None
        slots = {kind: last.slots.get(kind.label, config.DEFAULT_SLOTS[kind]) for kind in CLASSES}
        self._settings = replace(self._settings, slots=slots)
        return last

    def _save(self, routes: Sequence[Route], servers: Sequence[Server]) -> None:
        slots = {kind.label: count for kind, count in self._settings.slots.items()}
        data = wire.encode(LastGood(routes=tuple(routes), servers=tuple(servers), slots=slots))
        if data == self._saved:
            return
        with contextlib.suppress(OSError):  # the routes are in force all the same
            temporary = self._folder / "last.json.new"
            temporary.write_bytes(data)
            temporary.replace(self._folder / "last.json")
            self._saved = data

    # Counters ------------------------------------------------------------------------------------

    async def read(self) -> GatewayReading:
        """Return the counters now; Unavailable when HAProxy does not answer."""
        async with self._lock:
            seen = await self._observe()
            table = parse_table(await ask(self._process.stats, f"show table {TABLE}"))
            info = parse_info(await ask(self._process.stats, "show info"))
            old = await self._old_workers() if self.reloads else {}
        in_flight = in_flight_of(seen.servers)
        for name, count in old.items():
            in_flight[name] = in_flight.get(name, 0) + count
        states = {server.name: _state(server.drain, server.up) for server in seen.servers}
        return GatewayReading(
            run=self._run,
            ready=True,
            haproxy_version=self.version,
            revisions=dict(self._revisions),
            versions=self._versions(seen, table),
            servers=tuple(
                ServerTraffic(server=name, state=states.get(name, "old worker"), in_flight=count)
                for name, count in sorted(in_flight.items())
            ),
            reloads=self.reloads,
            repairs=self.repairs,
            log_lines_lost=self._lost(info),
            slots_free=len(seen.slots) - len(owners(seen)),
        )

    async def _old_workers(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for answer in await self._process.old_workers():
            _, rows = parse_stat(answer)
            for (_, name), row in rows.items():
                found[name] = found.get(name, 0) + int(row.get("scur") or 0)
        return found

    def _versions(self, seen: Seen, table: dict[str, int]) -> tuple[VersionTraffic, ...]:
        now: dict[tuple[str, str], tuple[int, int]] = {}
        for slot, owner in owners(seen).items():
            counters = seen.slots.get(slot)
            if counters is not None:
                running, queued = now.get(owner, (0, 0))
                now[owner] = (
                    running + counters.current - counters.queued,
                    queued + counters.queued,
                )
        for api in self._routes:
            known = sum(sum(counts) for (name, _), counts in now.items() if name == api)
            held = max(0, table.get(api, 0) - known)
            now[api, ""] = (0, 0) if not held else (-held, 0)
        keys = sorted(now.keys() | self._outcomes.sums.keys())
        return tuple(
            _traffic(key, now.get(key, (0, 0)), self._outcomes.sums.get(key, Sums()))
            for key in keys
        )

    def _lost(self, info: dict[str, str]) -> int:
        """Return how many log lines never came: what HAProxy dropped while we were busy."""
        return int(info.get("DroppedLogs", 0) or 0) + self._outcomes.damaged


def _traffic(key: tuple[str, str], now: tuple[int, int], sums: Sums) -> VersionTraffic:
    running, queued = now
    one, two, three, four, five, gone = sums.outcomes
    return VersionTraffic(
        api=key[0],
        version=key[1],
        in_flight=max(0, running),
        queued=queued,
        held=max(0, -running),
        arrivals=sums.completions + max(0, running) + queued,
        completions=sums.completions,
        outcomes=(one, two, three, four, five, gone),
        refused=sums.refused,
        latency_buckets=tuple(sums.buckets),
        latency_sum_ms=sums.latency_sum_ms,
        bytes_in=sums.bytes_in,
        bytes_out=sums.bytes_out,
    )


def _state(drain: bool, up: bool) -> str:
    return "draining" if drain else "up" if up else "down"


def _harmless(answer: str) -> bool:
    return answer.startswith(("New server registered", "Server deleted", "health was already"))


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
