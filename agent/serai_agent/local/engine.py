"""The engine of one machine: replicas as local processes, each with a keeper of its own."""

import asyncio
import contextlib
import fcntl
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import psutil

from serai.clock import Clock
from serai.ended import surplus
from serai.engine import USUAL_DRAIN_S, Capacity, EngineNode, LogLine, LogQuery
from serai.errors import Refused
from serai.logqueries import read_logs, takes
from serai.model import Replica, Version
from serai.probe import Prober
from serai.report import ReplicaUsage
from serai.supervisor import LoopWatcher, Unwatched
from serai_agent.local import keepers
from serai_agent.local.body import Body, ProcessBody
from serai_agent.local.containers import ContainerBody, docker_problem, has_containers
from serai_agent.local.folder import Order, ReplicaFolder, disk_error, write_whole
from serai_agent.local.logline import Source
from serai_agent.local.mounts import mount_problem
from serai_agent.local.place import Cache
from serai_agent.local.ports import Ports
from serai_agent.local.replica import LocalReplica, Surroundings
from serai_agent.local.settings import LocalSettings
from serai_agent.local.usage import UsageMeter

log = logging.getLogger(__name__)

REPLICA_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
AFTER_A_FAULT_S = 1.0
REMOVALS = 40
REMOVAL_PAUSE_S = 0.05
DEFAULT_GRACE_S = 10.0
STOP_SLACK_S = 10.0
MIB = 2**20


class LocalEngine:
    """Implements `serai.engine.Engine` with the processes of this machine.

    Call `open` (takes the folder and adopts what an earlier engine left running), keep `run`
    going, and at the end call `shutdown` and then cancel `run`. `changed` is called whenever
    `observe` would show another state or other servers.
    """

    def __init__(
        self,
        clock: Clock,
        node: str,
        folder: Path,
        cache: Cache,
        settings: LocalSettings | None = None,
        changed: Callable[[], None] = lambda: None,
        watcher: LoopWatcher | None = None,
    ) -> None:
        self._clock = clock
        self._watcher = watcher or Unwatched()
        self._folder = folder
        self._settings = settings or LocalSettings()
        first, last = self._settings.ports
        self._ports = Ports(self._settings.host, first, last, str(folder))
        self._prober = Prober(self._settings.probe_timeout_s)
        self._around = Surroundings(
            node=node,
            clock=clock,
            settings=self._settings,
            cache=cache,
            prober=self._prober,
            changed=changed,
        )
        self._cache = cache
        self._replicas: dict[str, LocalReplica] = {}
        self._ended: dict[str, tuple[Replica, Source]] = {}
        self._epoch = 0
        self._lock_fd = -1
        self._wake = asyncio.Event()
        self._meter = UsageMeter()
        self._usage: tuple[ReplicaUsage, ...] = ()
        self.gpus: Callable[[], int | None] = lambda: None
        """Tells how many GPUs this machine has, None where that is not known."""

    # Beginning and end ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Take the folder and everything in it.

        Raises Refused when another engine has it, Unavailable when the disk does not allow it.
        """
        try:
            (self._folder / "replicas").mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            self._take_lock()
            self._epoch = self._read_epoch()
            for path in sorted((self._folder / "replicas").iterdir()):
                await self._take_up(ReplicaFolder(path))
        except OSError as error:
            self._release()
            raise disk_error(error, self._folder) from error
        for api in {replica.api for replica, _ in self._ended.values()}:
            await self._prune_ended(api)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock_fd, 32, 0).decode("ascii", "replace").strip()
            self._release()
            raise Refused(
                f"{self._folder} is in use by another engine (process {holder or 'unknown'})",
                "folder_in_use",
            ) from None
        os.ftruncate(self._lock_fd, 0)
        with contextlib.suppress(OSError):
            os.pwrite(self._lock_fd, str(os.getpid()).encode(), 0)

    def _read_epoch(self) -> int:
        try:
            return int((self._folder / "epoch").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    async def _take_up(self, folder: ReplicaFolder) -> None:
        """Adopt a living replica, recall an ended one, end one whose order cannot be read."""
        order, ended = folder.order(), folder.ended()
        if order is not None and ended is not None:
            folder.drop("launch.json")
            await asyncio.to_thread(shutil.rmtree, folder.temporary, True)
            self._ended[order.replica] = (ended, _source(order, folder))
        elif order is not None:
            replica = self._make(order, folder)
            replica.adopt()
            self._replicas[order.replica] = replica
            log.info("replica taken up", extra={"replica": order.replica})
        else:
            log.warning("replica without an order ended", extra={"folder": str(folder.path)})
            keepers.ask_to_end(folder, 0.0)
            await asyncio.to_thread(keepers.end_leftovers, folder)
            await self._remove_folder(folder.path)

    async def _remove_folder(self, path: Path) -> None:
        """Remove a folder; a keeper that ends just now may still write its last record there."""
        for _ in range(REMOVALS):
            await asyncio.to_thread(shutil.rmtree, path, True)
            if not await asyncio.to_thread(path.exists):
                return
            await self._clock.sleep(REMOVAL_PAUSE_S)

    def _make(self, order: Order, folder: ReplicaFolder) -> LocalReplica:
        kind = ContainerBody if has_containers(order.version) else ProcessBody
        body: Body = kind(order, folder, self._settings, self._ports)
        return LocalReplica(order, folder, body, self._around)

    async def run(self) -> None:
        """Look after all replicas until cancelled; those then run on by themselves."""
        # By the replica itself: after `forget` another one may come under the same id.
        tasks: dict[LocalReplica, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                periods = self._settings
                group.create_task(self._again("usage", self._measure, periods.usage_period_s))
                group.create_task(self._again("prune", self._prune_cache, periods.prune_period_s))
                while True:
                    self._wake.clear()
                    tasks = {one: task for one, task in tasks.items() if not task.done()}
                    for replica in self._replicas.values():
                        if replica not in tasks:
                            tasks[replica] = group.create_task(self._look_after(replica))
                    await self._wake.wait()
        finally:
            await self._prober.close()

    async def _look_after(self, replica: LocalReplica) -> None:
        while True:
            try:
                await replica.run()
                break
            except Exception:  # supervisor: one replica's fault is its own
                log.exception("replica's task failed", extra={"replica": replica.order.replica})
                await self._clock.sleep(AFTER_A_FAULT_S)
        final = replica.final
        assert final is not None
        self._replicas.pop(final.id, None)
        self._ended[final.id] = (final, replica.source)
        await self._prune_ended(final.api)

    async def shutdown(self, keep: bool, grace_s: float = DEFAULT_GRACE_S) -> None:
        """Leave the replicas running (`keep`), or end them all and wait for that.

        Then the folder is free for another engine. Call it while `run` goes on.
        """
        if not keep:
            for replica in self._replicas.values():
                replica.stop(grace_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s + STOP_SLACK_S):
                    while self._replicas:
                        await self._clock.sleep(0.05)
        await self._cache.close()
        self._release()

    def _release(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # The port ------------------------------------------------------------------------------------

    async def observe(self) -> Sequence[Replica]:
        living = [replica.view() for replica in self._replicas.values()]
        return (*(replica for replica, _ in self._ended.values()), *living)

    async def start(
        self,
        replicas: Sequence[str],
        version: Version,
        epoch: int,
        drain_s: float = USUAL_DRAIN_S,
    ) -> None:
        """As the port says; Refused for an id or a version that cannot be run here."""
        self._heed_epoch(epoch)
        for replica in replicas:
            if not REPLICA_ID.fullmatch(replica):
                raise Refused(f"{replica!r} cannot be the id of a replica", "bad_replica_id")
        if (problem := await self.problem_with(version)) is not None:
            raise Refused(problem, "cannot_run_here")
        for replica in replicas:
            if replica not in self._replicas and replica not in self._ended:
                self._start(replica, version)

    def _start(self, replica: str, version: Version) -> None:
        order = Order(replica=replica, version=version, created_at_s=self._clock.wall())
        folder = ReplicaFolder(self._folder / "replicas" / replica)
        folder.create(order)
        self._replicas[replica] = self._make(order, folder)
        self._wake.set()

    async def problem_with(self, version: Version) -> str | None:
        """Say why this machine can never run a version; None when it can. For validation too."""
        for mount in version.content.mounts:
            if (refused := mount_problem(mount.host, self._settings.mount_roots)) is not None:
                return refused
        if has_containers(version):
            return await self.docker_problem()
        for mount in version.content.mounts:
            if mount.host != mount.path:
                return (
                    f"{mount.host} cannot be shown as {mount.path} without a container; "
                    "use the same path for both"
                )
        return None

    async def docker_problem(self) -> str | None:
        """Say why containers cannot be run here; None when they can."""
        return await asyncio.to_thread(docker_problem, self._settings.docker_url)

    async def stop(self, replicas: Sequence[str], grace_s: float, epoch: int) -> None:
        self._heed_epoch(epoch)
        for replica in replicas:
            if (found := self._replicas.get(replica)) is not None:
                found.stop(grace_s)

    async def grant(self, version: Version, drain_s: float, epoch: int) -> None:
        """As the port says: here nothing but `stop` ends a replica, which brings its own time."""
        self._heed_epoch(epoch)

    async def nodes(self) -> Sequence[EngineNode]:
        """As the port says: this machine; of the processor nothing is set aside for replicas."""
        memory_mib = psutil.virtual_memory().total // MIB
        capacity = Capacity(memory_mib=memory_mib, gpus=self.gpus())
        return (EngineNode(name=self._around.node, takes=True, capacity=capacity),)

    async def take(self, node: str, takes: bool, epoch: int) -> None:
        """As the port says; there is no other machine to go to."""
        if not takes:
            raise Refused(
                f"{node} is the only node; there is no other to run replicas", "only_node"
            )

    async def forget(self, api: str, epoch: int) -> None:
        self._heed_epoch(epoch)
        await self._remove_ended([r for r, _ in self._ended.values() if r.api == api])

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """As the port says; `grep` is plain text, case counts only when it has capitals."""
        return read_logs(query, lambda: self._sources(query), self._clock)

    def usage(self) -> tuple[ReplicaUsage, ...]:
        """Return what each living replica used in the last period, as measured by `run`."""
        return self._usage

    def _heed_epoch(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise Refused(f"epoch {epoch} is over: {self._epoch} has been seen", "fenced")
        if epoch > self._epoch:
            try:
                write_whole(self._folder / "epoch", str(epoch).encode())
            except OSError as error:
                raise disk_error(error, self._folder) from error
            self._epoch = epoch

    def _sources(self, query: LogQuery) -> list[Source]:
        known = [(r.order.version.api, r.source) for r in self._replicas.values()]
        known += [(replica.api, source) for replica, source in self._ended.values()]
        return [s for api, s in known if takes(query, api, s.version, s.replica)]

    # Ended replicas ------------------------------------------------------------------------------

    async def _prune_ended(self, api: str) -> None:
        ended = [replica for replica, _ in self._ended.values() if replica.api == api]
        await self._remove_ended(surplus(ended, self._settings.ended_kept_per_api))

    async def _remove_ended(self, replicas: Sequence[Replica]) -> None:
        for replica in replicas:
            if self._ended.pop(replica.id, None) is not None:
                path = self._folder / "replicas" / replica.id
                await asyncio.to_thread(shutil.rmtree, path, True)

    # Loops ---------------------------------------------------------------------------------------

    async def _measure(self) -> None:
        roots = {name: found for name, r in self._replicas.items() if (found := r.roots())}
        now_s = self._clock.now()
        self._usage = await asyncio.to_thread(self._meter.measure, roots, now_s)

    async def _prune_cache(self) -> None:
        await self._cache.prune([replica.order.version for replica in self._replicas.values()])

    async def _again(self, name: str, what: Callable[[], Awaitable[None]], period_s: float) -> None:
        while True:
            due_s = self._clock.now() + period_s
            await self._clock.sleep(period_s)
            self._watcher.late(name, max(0.0, self._clock.now() - due_s), 0)
            try:
                await what()
            except Exception:  # supervisor: the next turn may go better
                log.exception("turn failed", extra={"loop": name})


def _source(order: Order, folder: ReplicaFolder) -> Source:
    return Source(replica=order.replica, version=order.version.name, folder=str(folder.logs))
