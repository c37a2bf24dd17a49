"""Ending tasks that nobody waits for any more."""

import asyncio
from typing import Any


async def cancelled(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel tasks and wait until they have ended; how they did is for others to ask."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
