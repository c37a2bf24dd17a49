"""Brings what replicas of Nomad's wait for: their wishes lie in a folder of the cache."""

import asyncio
import contextlib
import logging
import os
import stat
import tempfile
from itertools import islice
from pathlib import Path
from typing import NoReturn, Protocol

from serai import wire
from serai.cache_names import (
    FAILED_SUFFIX,
    MAX_WISH_BYTES,
    WISH_NAME,
    WISHES,
    Wish,
    wish_name,
)
from serai.clock import Clock
from serai.errors import ConfigError, Refused, Unavailable
from serai_agent.cache.disk import UNFINISHED, disk_problem
from serai_agent.local.place import Place, Tell

log = logging.getLogger(__name__)

POLL_S = 0.5
AT_ONCE = 4
"""How many wishes are worked on at once; one environment is built once all the same."""
RETRY_S = 2.0
GIVE_UP_AFTER_S = 60.0
"""How long what may pass by itself (no scheduler, a full disk) is tried again."""
KEPT_S = 86_400.0
"""How long reasons, and what a replica did not write to its end, stay."""
MAX_REASON_CHARACTERS = 2000
MOST_FILES = 10_000
"""How many files of the folder are looked at each time."""


class Granting(Protocol):
    """What brings the parts: `serai_agent.cache.node.NodeCache`."""

    async def grant(self, wish: Wish, tell: Tell) -> Place: ...


class Wishes:
    """Looks into the folder of wishes; keep `run` going.

    Anybody on the node may leave a wish (its tasks run as whom the operator likes), and gets no
    more by it than content that the scheduler has.
    """

    def __init__(self, clock: Clock, cache_folder: Path, cache: Granting) -> None:
        self._clock = clock
        self._folder = cache_folder / WISHES
        self._cache = cache
        self._working: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> NoReturn:
        """Grant wishes until cancelled; Unavailable when the folder cannot be used."""
        self._working.clear()
        await asyncio.to_thread(self._make_folder)
        async with asyncio.TaskGroup() as group:
            while True:
                for name in await asyncio.to_thread(self._waiting):
                    if name not in self._working and len(self._working) < AT_ONCE:
                        self._working[name] = group.create_task(self._work_on(name))
                await self._clock.sleep(POLL_S)
        raise AssertionError("unreachable: the loop above does not end")

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o1777)
        except OSError as error:
            raise disk_problem(error, self._folder) from error

    def _waiting(self) -> list[str]:
        """Return the names of wishes, the oldest first."""
        found: list[tuple[float, str]] = []
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in islice(entries, MOST_FILES):
                if WISH_NAME.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        found.append((entry.stat(follow_symlinks=False).st_mtime, entry.name))
        return [name for _, name in sorted(found)]

    async def _work_on(self, name: str) -> None:
        try:
            why = await self._grant(name)
            if why is not None:
                await asyncio.to_thread(self._end, name, why)
        except OSError as error:
            told = str(disk_problem(error, self._folder))
            log.warning("wish not ended", extra={"wish": name, "why": told})
            await self._clock.sleep(RETRY_S)  # else a full disk is met anew each time we look
        finally:
            self._working.pop(name, None)

    async def _grant(self, name: str) -> str | None:
        """Return "" when the parts are there, else in words why they cannot be had.

        None: the wish has gone since the folder was looked at, as one that was being worked on
        then; the reason that lies in its place is of that work.
        """
        path = self._folder / name
        try:
            wish = await asyncio.to_thread(read_wish, path)
            if wish is None:
                return None
            until_s = self._clock.now() + GIVE_UP_AFTER_S
            with contextlib.suppress(OSError):
                path.with_name(name + FAILED_SUFFIX).unlink()
            while True:
                try:
                    await self._cache.grant(wish, lambda doing: None)
                    log.info("parts of a replica are here", extra={"wish": name})
                    return ""
                except Unavailable as error:
                    if self._clock.now() >= until_s:
                        raise
                    log.info("parts of a replica wait", extra={"wish": name, "why": str(error)})
                    await self._clock.sleep(RETRY_S)
        except (ConfigError, Refused, Unavailable) as error:
            log.warning("parts cannot be had", extra={"wish": name, "why": str(error)})
            return str(error) or type(error).__name__

    def _end(self, name: str, why: str) -> None:
        """Take the wish away; before that, tell why it was not granted."""
        path = self._folder / name
        if why:
            fd, part = tempfile.mkstemp(prefix=UNFINISHED, dir=self._folder)
            try:
                with os.fdopen(fd, "w") as file:
                    file.write(why[:MAX_REASON_CHARACTERS] + "\n")
                os.chmod(part, 0o644)
                os.replace(part, path.with_name(name + FAILED_SUFFIX))
            except OSError:
                with contextlib.suppress(OSError):  # it may not hide why
                    os.unlink(part)
                raise
        path.unlink(missing_ok=True)

    def prune(self) -> None:
        """Remove what nobody asks for any more; for a thread."""
        limit_s = self._clock.wall() - KEPT_S
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    old = entry.stat(follow_symlinks=False).st_mtime < limit_s
                    if old and entry.name not in self._working:
                        os.unlink(entry.path)


def read_wish(path: Path) -> Wish | None:
    """Read a wish; None when it is gone, ConfigError for what is none.

    For a thread: the file is somebody else's.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ConfigError("the wish is no plain file")
            raw = os.read(fd, MAX_WISH_BYTES + 1)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"the wish cannot be read: {error.strerror or error}") from error
    if len(raw) > MAX_WISH_BYTES:
        raise ConfigError(f"the wish has more than {MAX_WISH_BYTES} bytes")
    wish = wire.decode(raw, Wish)
    if wish_name(raw.decode()) != path.name:
        raise ConfigError("the wish is not called after its content")
    return wish
