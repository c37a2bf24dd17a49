"""Uploading what a deploy needs, with a progress bar on a terminal."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from random import Random

import aiohttp

from serai.clock import SystemClock
from serai_cli import targets
from serai_cli.project.blob_client import Target
from serai_cli.project.bundle import Source
from serai_cli.project.upload import Progress, upload


def send_all(sources: Sequence[Source], to: targets.Target) -> int:
    """Send whatever of these the scheduler lacks; return how many files that were."""

    async def run() -> Progress:
        # Made for https only: it reads all certificates of the system.
        secure = targets.address_of(to.url).secure
        connector = aiohttp.TCPConnector(ssl=targets.context_of(to.ca) if secure else True)
        async with aiohttp.ClientSession(connector=connector) as session:
            with _bar() as on_progress:
                scheduler = Target(to.url, to.token)
                return await upload(
                    session, scheduler, sources, on_progress, SystemClock(), Random()
                )

    return asyncio.run(run()).sent_files


class _bar:  # used like a function
    """A progress bar that appears once there is something to wait for."""

    def __enter__(self) -> Callable[[Progress], None]:
        self._bar = None
        if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                TextColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("uploading"),
                BarColumn(),
                DownloadColumn(binary_units=True),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("upload", total=None)
        return self._tell

    def _tell(self, progress: Progress) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=progress.sent_bytes, total=progress.total_bytes)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
