"""The engine of one machine: replicas as local processes, each with a keeper of its own."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import aiohttp
import psutil

from serai.clock import Clock
from serai.engine import LogLine, LogQuery
from serai.errors import ConfigError, Refused, Unavailable
from serai.model import Replica, ReplicaState, Version
from serai.report import ReplicaUsage
from serai_agent.local.command import processes_of
from serai_agent.local.folder import Order, ReplicaFolder
from serai_agent.local.instance import Instance, free_ports
from serai_agent.local.logs import DEFAULT_TAIL, TAIL_LIMIT, Source, merge, wanted
from serai_agent.local.prepare import Prepare

KEEP_ENDED = 10
FOLLOW_POLL_S = 0.2
HEARTBEAT_S = 10.0


class LocalEngine:
    """Runs replicas below a folder; `changed` is called when `observe` would show something new.

    Use it as an async context: it adopts what a process before it left running.
    """

    def __init__(
        self,
        folder: Path,
        node: str,
        clock: Clock,
        prepare: Prepare,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._node = node
        self._clock = clock
        self._prepare = prepare
        self._changed = changed
        self._instances: dict[str, Instance] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._epoch = 0
        self._lock_fd = -1
        self._session: aiohttp.ClientSession | None = None
        self._usage: dict[int, psutil.Process] = {}

    async def __aenter__(self) -> "LocalEngine":
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock_fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another engine uses {self._folder}") from None
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector)
        with contextlib.suppress(OSError, ValueError):
            self._epoch = int((self._folder / "epoch").read_text())
        for path in sorted(self._folder.iterdir()):
            if path.is_dir():
                self._adopt(ReplicaFolder(path))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        os.close(self._lock_fd)

    def _adopt(self, folder: ReplicaFolder) -> None:
        """Take up a replica that is there already: watch it, or recall how it ended."""
        order = folder.order()
        state = folder.state()
        if order is None or (state is None and folder.ended() is None):
            folder.remove()  # an order that was never carried out
            return
        instance = self._instance(order, folder)
        if (ended := folder.ended()) is not None:
            instance.recall(*ended)
        else:
            self._tasks[order.replica] = asyncio.create_task(instance.watch())

    def _instance(self, order: Order, folder: ReplicaFolder) -> Instance:
        assert self._session is not None, "the engine is an async context"
        instance = Instance(
            order, folder, self._node, self._clock, self._session, self._something_changed
        )
        self._instances[order.replica] = instance
        return instance

    def _something_changed(self) -> None:
        self._changed()

    # The port ------------------------------------------------------------------------------------

    async def observe(self) -> Sequence[Replica]:
        return tuple(instance.view() for instance in self._instances.values())

    async def start(self, replica: str, version: Version, epoch: int) -> None:
        self._check_epoch(epoch)
        if replica in self._instances:
            return
        self._forget_oldest(version.api)
        folder = ReplicaFolder(self._folder / replica)
        order = Order(
            replica=replica,
            version=version,
            ports=free_ports(processes_of(version)),
            created_at_s=self._clock.wall(),
        )
        try:
            folder.create(order)
        except OSError as error:
            folder.remove()
            raise Unavailable(f"cannot start a replica: {error}") from error
        instance = self._instance(order, folder)
        self._tasks[replica] = asyncio.create_task(instance.run(self._prepare))
        self._something_changed()

    async def stop(self, replica: str, grace_s: float, epoch: int) -> None:
        self._check_epoch(epoch)
        if (instance := self._instances.get(replica)) is not None:
            instance.stop(grace_s)

    async def forget(self, api: str, epoch: int) -> None:
        self._check_epoch(epoch)
        for instance in list(self._instances.values()):
            if instance.order.version.api == api and instance.ended:
                self._remove(instance)

    def _check_epoch(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise Refused(f"epoch {epoch} is over: {self._epoch} has been seen", "fenced")
        if epoch > self._epoch:
            self._epoch = epoch
            try:
                (self._folder / "epoch").write_text(str(epoch))
            except OSError as error:
                raise Unavailable(f"cannot remember the epoch: {error}") from error

    def _forget_oldest(self, api: str) -> None:
        """Keep the records and logs of the last ended replicas only."""
        ended = [i for i in self._instances.values() if i.order.version.api == api and i.ended]
        ended.sort(key=lambda i: i.view().ended_at_s or 0.0)
        for instance in ended[: max(0, len(ended) - KEEP_ENDED)]:
            self._remove(instance)

    def _remove(self, instance: Instance) -> None:
        instance.folder.remove()
        self._instances.pop(instance.order.replica, None)
        self._tasks.pop(instance.order.replica, None)

    # Logs ----------------------------------------------------------------------------------------

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        sources = self._sources(query)
        tail = min(query.tail if query.tail is not None else DEFAULT_TAIL, TAIL_LIMIT)
        per_source = TAIL_LIMIT if query.grep or query.since_s is not None else tail
        streams = [await asyncio.to_thread(source.tail, per_source) for source in sources.values()]
        for source in sources.values():
            source.start_following()
        lines = [line for line in merge(streams) if wanted(line, query)]
        for line in lines[-tail:] if tail else []:
            yield line
        while query.follow:
            await self._clock.sleep(FOLLOW_POLL_S)
            for name, source in self._sources(query).items():
                sources.setdefault(name, source)
            fresh = [await asyncio.to_thread(source.fresh) for source in sources.values()]
            for line in merge(fresh):
                if wanted(line, query):
                    yield line

    def _sources(self, query: LogQuery) -> dict[str, Source]:
        return {
            name: Source(name, instance.order.version.name, instance.folder.logs)
            for name, instance in self._instances.items()
            if instance.order.version.api == query.api
            and (not query.replicas or name in query.replicas)
            and query.version in ("", instance.order.version.name)
        }

    # Use -----------------------------------------------------------------------------------------

    async def usage(self) -> tuple[ReplicaUsage, ...]:
        """Return what every living replica's processes use together."""
        pids = {
            name: pid
            for name, instance in self._instances.items()
            if not instance.ended and (pid := instance.pid()) is not None
        }
        return await asyncio.to_thread(self._measure, pids)

    def _measure(self, pids: dict[str, int]) -> tuple[ReplicaUsage, ...]:
        seen: dict[int, psutil.Process] = {}
        found = []
        for name, pid in pids.items():
            cpu, memory, count = 0.0, 0, 0
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(pid).children(recursive=True):
                    process = self._usage.get(child.pid, child)
                    process = process if process == child else child
                    seen[child.pid] = process
                    with contextlib.suppress(psutil.Error):
                        cpu += process.cpu_percent(None) / 100
                        memory += process.memory_info().rss
                        count += 1
            found.append(
                ReplicaUsage(replica=name, cpu_cores=cpu, memory_bytes=memory, processes=count)
            )
        self._usage = seen
        return tuple(found)

    async def end_all(self, grace_s: float) -> None:
        """Stop every replica and wait until all have ended."""
        for instance in self._instances.values():
            instance.stop(grace_s)
        while any(i.view().state is ReplicaState.DRAINING for i in self._instances.values()):
            await self._clock.sleep(0.05)
