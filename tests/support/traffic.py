"""Steady requests from a thread of their own, every answer checked."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import aiohttp


@dataclass
class Traffic:
    """What came back: how many answers were 200, and what else there was."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)


@contextmanager
def steady(url: str, rate: float, body: bytes = b"{}") -> Iterator[Traffic]:
    """Send requests at a constant rate, whatever the answers do, until the block ends."""
    traffic, stop, thread = _begun(url, rate, body)
    try:
        yield traffic
    finally:
        stop.set()
        thread.join()


@asynccontextmanager
async def steadily(url: str, rate: float, body: bytes = b"{}") -> AsyncIterator[Traffic]:
    """Like `steady`, for a test whose own loop answers: it goes on until the last answer came."""
    traffic, stop, thread = _begun(url, rate, body)
    try:
        yield traffic
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)


def _begun(url: str, rate: float, body: bytes) -> tuple[Traffic, threading.Event, threading.Thread]:
    traffic, stop = Traffic(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_send(url, rate, body, traffic, stop)))
    thread.start()
    return traffic, stop, thread


async def _send(
    url: str, rate: float, body: bytes, traffic: Traffic, stop: threading.Event
) -> None:
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=64)
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        asyncio.TaskGroup() as group,
    ):
        began_s, number = time.monotonic(), 0  # noqa: TID251  # real traffic in real time
        while not stop.is_set():
            group.create_task(_one(session, url, body, traffic))
            number += 1
            due_s = began_s + number / rate
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))  # noqa: TID251


async def _one(session: aiohttp.ClientSession, url: str, body: bytes, traffic: Traffic) -> None:
    try:
        async with session.post(url, data=body, timeout=aiohttp.ClientTimeout(60)) as response:
            text = await response.text()
            if response.status == 200:
                traffic.answered += 1
            else:
                traffic.failed.append(f"{response.status} {text[:200]}")
    except (aiohttp.ClientError, TimeoutError) as error:
        traffic.failed.append(repr(error))
