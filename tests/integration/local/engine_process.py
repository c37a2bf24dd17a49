"""An engine in a process of its own, to be killed by a test: FOLDER BUNDLE REPLICA..."""

import asyncio
import sys
from pathlib import Path

from tests.integration.local.world import FolderCache, engine_on, ready, version


async def main() -> None:
    folder, bundle, *names = sys.argv[1:]
    async with engine_on(Path(folder), FolderCache(Path(bundle)), keep=True) as engine:
        for name in names:
            await engine.start([name], version(), epoch=3)
        for name in names:
            replica = await ready(engine, name)
            print(name, replica.servers[0].port, flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
