"""A server with the blob routes, as the scheduler mounts them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from aiohttp import web

from serai.blobs import Blobs
from serai.clock import SystemClock
from serai_cli.project.bundle import Source, in_memory
from serai_scheduler.blobs import FolderBlobs, routes


@dataclass(frozen=True)
class Served:
    """A running server and the stores behind it."""

    url: str
    port: int
    blobs: Blobs
    parts: Blobs
    requests: list[str]

    async def stored(self) -> dict[str, int]:
        """Return the size of each blob by its digest."""
        return {blob.digest: blob.size_bytes async for blob in self.blobs.list()}


@asynccontextmanager
async def serving(folder: Path, blobs: Blobs | None = None) -> AsyncIterator[Served]:
    """Serve blobs (a folder below `folder`, unless given) on a free port."""
    blobs = blobs or FolderBlobs(folder / "blobs", SystemClock())
    parts = FolderBlobs(folder / "parts", SystemClock())
    requests: list[str] = []

    @web.middleware
    async def noting(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        requests.append(f"{request.method} {request.path}")
        return await handler(request)

    app = web.Application(middlewares=[noting])
    app.add_routes(routes(blobs, parts))
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield Served(f"http://127.0.0.1:{port}", port, blobs, parts, requests)
    finally:
        await runner.cleanup()


def contents(*sizes_bytes: int) -> list[Source]:
    """Return different contents of these sizes."""
    return [
        in_memory(Random(number).randbytes(size_bytes), f"file-{number}")
        for number, size_bytes in enumerate(sizes_bytes)
    ]
