"""What schedulers do with blobs, alone: folders of their own behind real HTTP servers."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from serai.blobs import Blobs
from serai.clock import Clock
from serai_scheduler.blobs import FolderBlobs
from serai_scheduler.blobs.majority import MajorityBlobs
from serai_scheduler.blobs.peer import PeerBlobs, peer_session
from serai_scheduler.blobs.peer_routes import peer_routes
from tests.support.ports import free_port


class BlobScheduler:
    """One of several: its folder, its blobs (with the others'), and its server."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.own: Blobs = FolderBlobs(folder / "blobs", clock)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[str] = []
        self.blobs: MajorityBlobs
        self._parts = FolderBlobs(folder / "parts", clock)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Answer the others, until `stop`."""

        @web.middleware
        async def noting(
            request: web.Request, handler: aiohttp.typedefs.Handler
        ) -> web.StreamResponse:
            self.requests.append(f"{request.method} {request.path}")
            return await handler(request)

        app = web.Application(middlewares=[noting], client_max_size=2**31)
        app.add_routes(peer_routes(self.own, self._parts))
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        """Answer nobody any more."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def stored(self) -> set[str]:
        """Return the digests in its own folder."""
        return {blob.digest async for blob in self.own.list()}


@asynccontextmanager
async def blob_schedulers(
    folder: Path, clock: Clock, count: int = 3, urls: Sequence[str] = ()
) -> AsyncIterator[list[BlobScheduler]]:
    """Run schedulers' blobs; `urls` are where the others find them when not at their servers."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(peer_session(None))
        found = [BlobScheduler(folder / str(number), clock) for number in range(count)]
        known = dict(zip(found, urls or [one.url for one in found], strict=True))
        for one in found:
            peers = {
                url: PeerBlobs(session, url, "") for other, url in known.items() if other is not one
            }
            one.blobs = MajorityBlobs(one.own, peers, clock)
            stack.push_async_callback(one.blobs.close)
            await one.start()
            stack.push_async_callback(one.stop)
        yield found
