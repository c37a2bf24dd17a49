"""What a replica is made of: processes under a keeper here, containers in `containers`."""

import asyncio
import contextlib
import os
import shutil
from typing import Protocol

import msgspec

from serai.errors import Unavailable
from serai.model import Server
from serai.sharing import processes
from serai_agent.local import keepers
from serai_agent.local.command import launch_of, servers
from serai_agent.local.folder import KeeperState, Launch, Order, ReplicaFolder, RuntimeStatus
from serai_agent.local.judge import End, end_of
from serai_agent.local.place import Place
from serai_agent.local.ports import Ports, stranger_listens
from serai_agent.local.settings import LocalSettings


class Body(Protocol):
    """The running half of a replica; the other half (`replica`) watches it."""

    def adopt(self) -> bool:
        """Take up what an earlier engine started; False when nothing was started."""
        ...

    async def launch(self, place: Place) -> None:
        """Start it; raise ConfigError, Refused or Unavailable with nothing left running."""
        ...

    def servers(self) -> tuple[Server, ...]:
        """Return its servers, ready or not; none before it was launched."""
        ...

    def ended(self) -> bool: ...

    def status(self) -> RuntimeStatus | None:
        """Return what the runtime tells of its processes; None where there is no runtime."""
        ...

    def may_launch_again(self) -> bool: ...

    def ask_to_end(self, grace_s: float) -> None:
        """Ask it to end without waiting; SIGKILL follows after the grace."""
        ...

    async def stranger_on(self, port: int) -> bool:
        """Say whether somebody else surely listens on one of its ports."""
        ...

    async def end(self, *, stop_asked: bool) -> End:
        """End what is left of it and say how it ended."""
        ...

    async def clear(self) -> None:
        """Remove what an ended replica needs no more; its logs and records stay."""
        ...

    def roots(self) -> tuple[int, ...]:
        """Return the processes above all of its processes, while it lives."""
        ...


class ProcessBody:
    """Processes of this machine under a keeper."""

    def __init__(
        self, order: Order, folder: ReplicaFolder, settings: LocalSettings, ports: Ports
    ) -> None:
        self._order = order
        self._folder = folder
        self._settings = settings
        self._ports = ports
        self._taken: tuple[int, ...] = ()
        self._launches = 0
        self._status_at: tuple[int, int] | None = None
        self._status: RuntimeStatus | None = None
        self._keeper: KeeperState | None = None

    def adopt(self) -> bool:
        launch = self._folder.launch()
        self._keeper = self._folder.keeper_state()
        if launch is None or (self._keeper is None and not self._folder.keeper_lives()):
            return False  # the order was noted, and nothing came of it yet
        self._taken, self._launches = launch.ports, launch.launches
        self._ports.hold(self._taken)
        return True

    async def launch(self, place: Place) -> None:
        ports = self._ports.take(processes(self._order.version))
        self._ports.release(self._taken)
        self._taken = ports
        self._launches += 1
        try:
            await keepers.launch(self._folder, self._launch_of(place, ports))
        except Unavailable:
            self._launches -= 1
            raise
        self._keeper = self._folder.keeper_state()

    def _launch_of(self, place: Place, ports: tuple[int, ...]) -> Launch:
        predictor = self._order.version.content.predictor
        if predictor is not None:
            self._folder.write("config.json", msgspec.json.encode(predictor.config))
        return launch_of(
            self._order, place, self._folder, ports, self._settings, os.environ, self._launches
        )

    def servers(self) -> tuple[Server, ...]:
        return servers(self._order, self._settings.host, self._taken) if self._taken else ()

    def ended(self) -> bool:
        return not self._folder.keeper_lives()

    def status(self) -> RuntimeStatus | None:
        try:
            found = self._folder.status_file.stat()
        except OSError:
            return self._status
        at = (found.st_mtime_ns, found.st_ino)
        if at != self._status_at:
            self._status, self._status_at = self._folder.status(), at
        return self._status

    def may_launch_again(self) -> bool:
        return self._launches < self._settings.launches

    def ask_to_end(self, grace_s: float) -> None:
        keepers.ask_to_end(self._folder, grace_s)

    async def stranger_on(self, port: int) -> bool:
        state = self._folder.keeper_state()
        if state is None:
            return False
        return await asyncio.to_thread(stranger_listens, state.keeper_pid, port)

    async def end(self, *, stop_asked: bool) -> End:
        state = self._folder.keeper_state()
        status = self.status()
        stop = self._folder.stop()
        if state is None or state.ended_at_s is None:
            await asyncio.to_thread(keepers.end_leftovers, self._folder)
        grace_s = stop.grace_s if stop is not None else 0.0
        return end_of(state, status, stop_asked=stop_asked, grace_s=grace_s)

    def roots(self) -> tuple[int, ...]:
        if self._keeper is None:
            self._keeper = self._folder.keeper_state()
        return (self._keeper.keeper_pid,) if self._keeper is not None else ()

    async def clear(self) -> None:
        self._ports.release(self._taken)
        self._folder.drop("launch.json", "config.json", "status.json", "keeper.lock")
        with contextlib.suppress(OSError):
            await asyncio.to_thread(shutil.rmtree, self._folder.temporary, True)
