"""Steady requests through several gateways, as clients send them that know more than one.

A client whose connection is refused, takes too long or ends before an answer began, takes the next
gateway: that is no lost request. Anything that is answered wrongly, or by nobody, is one.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp

ANSWER_LIMIT_S = 30.0
CONNECT_LIMIT_S = 1.0
"""Then the next gateway is taken; for the last one there is no other limit than for the answer."""
BODY = b"{}"


@dataclass
class Traffic:
    """What came back; `lost` says of each request without a good answer what it got instead."""

    answered: int = 0
    sent: int = 0
    lost: list[str] = field(default_factory=list)
    gateways: list[str] = field(default_factory=list)
    """Who is asked; may be changed while requests are sent."""
    may_lose: int = 0
    """How many a test allows to be lost."""
    in_flight: Counter[str] = field(default_factory=Counter)
    """How many requests each gateway has at this moment."""
    extra: list[bytes] = field(default_factory=list)
    """Bodies of requests that are to be sent at once, beside the steady ones."""

    def burst(self, count: int, body: bytes) -> None:
        """Send so many at once."""
        self.extra = [body] * count


@contextmanager
def steady(gateways: Sequence[str], path: str, rate: float) -> Iterator[Traffic]:
    """Send requests at a constant rate until the block ends, gateway by gateway in turn."""
    traffic, stop = Traffic(gateways=list(gateways)), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_send(path, rate, traffic, stop)))
    thread.start()
    try:
        yield traffic
    finally:
        stop.set()
        thread.join()


async def _send(path: str, rate: float, traffic: Traffic, stop: threading.Event) -> None:
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=512),
            headers={"Content-Type": "application/json"},
        ) as session,
        asyncio.TaskGroup() as group,
    ):  # fmt: skip
        began_s, steady_ones = time.monotonic(), 0  # noqa: TID251  # real traffic in real time
        while not stop.is_set():
            extra, traffic.extra = traffic.extra, []
            for body in (BODY, *extra):
                group.create_task(_one(session, path, traffic, traffic.sent, body))
                traffic.sent += 1
            steady_ones += 1
            due_s = began_s + steady_ones / rate
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))  # noqa: TID251


async def _one(
    session: aiohttp.ClientSession, path: str, traffic: Traffic, number: int, body: bytes
) -> None:
    last = ""
    gateways = list(traffic.gateways)
    for turn in range(len(gateways)):
        gateway = gateways[(number + turn) % len(gateways)]
        limit_s = CONNECT_LIMIT_S if turn + 1 < len(gateways) else None
        timeout = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S, sock_connect=limit_s)
        traffic.in_flight[gateway] += 1
        try:
            async with session.post(gateway + path, data=body, timeout=timeout) as response:
                text = await response.text()
                if response.status == 200:
                    traffic.answered += 1
                    return
                last = f"{response.status} {text[:200]}"
                break
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            last = repr(error)
        finally:
            traffic.in_flight[gateway] -= 1
    traffic.lost.append(last)
