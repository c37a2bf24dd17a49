"""The scheduler's blob routes in a process of their own: `python -m bench.bundle.server FOLDER`.

Prints its port and serves until its standard input closes.
"""

import asyncio
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from serai.clock import SystemClock
from serai_scheduler.blobs import FolderBlobs, routes


async def serve(folder: Path) -> None:
    clock = SystemClock()
    app = web.Application()
    app.add_routes(
        routes(FolderBlobs(folder / "blobs", clock), FolderBlobs(folder / "parts", clock))
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
