"""A gateway with its agent's loops beside it, and the servers that it is measured with."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine, Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar

from bench.runtime.programs import Running, free_port, running
from serai.clock import SystemClock
from serai.model import Server
from serai.report import GatewayReading
from serai.routes import Route, VersionShare
from serai_agent.edge import process
from serai_agent.edge.gateway import HaproxyGateway

T = TypeVar("T")
PERIOD_S = 1.0


def route(api: str) -> Route:
    return Route(
        api=api,
        endpoint=f"/{api}",
        versions=(VersionShare(version="v1", share=1000),),
        queue_limit=10_000,
        queue_timeout_s=30,
        hold_limit_s=60,
        first_byte_s=60.0,
        idle_s=60.0,
        total_s=600.0,
        body_max_bytes=2**20,
        retry="connection",
        draining=(),
        retry_after_s=5,
        revision=1,
        epoch=1,
    )


def server(api: str, port: int, capacity: int) -> Server:
    return Server(
        id=f"{api}.v1.1.0",
        replica=f"{api}.v1.1",
        api=api,
        version="v1",
        host="127.0.0.1",
        port=port,
        capacity=capacity,
    )


class World:
    """A gateway whose log is read, and whose state is reconciled and reported each second."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.gateway = HaproxyGateway(folder, "127.0.0.1", self.port, SystemClock(), run="bench")
        self._orders: tuple[list[Route], list[Server]] = ([], [])
        self.do(self.gateway.start())
        self._beat = asyncio.run_coroutine_threadsafe(self._work(), self._loop)

    def do(self, task: Coroutine[Any, Any, T]) -> T:
        """Run something on the gateway's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(60)

    def order(self, routes: list[Route], servers: list[Server]) -> None:
        self._orders = (routes, servers)
        self.do(self.gateway.apply(routes, servers))

    async def _work(self) -> None:
        while True:
            await self.gateway.apply(*self._orders)
            await self.gateway.read()
            await asyncio.sleep(PERIOD_S)

    def read(self) -> GatewayReading:
        return self.do(self.gateway.read())

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self._beat.cancel()
        self.do(self.gateway.stop(2.0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


_MEMORY = """global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend memory
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string "0123456789"
"""


def memory_server(folder: Path) -> contextlib.AbstractContextManager[Running]:
    """Serve a fixed answer from a program in C: a HAProxy of one thread."""
    port = free_port()
    config = folder / "memory.cfg"
    config.write_text(_MEMORY.format(port=port))
    return running([process.find()[0], "-f", str(config)], port, says_200)


_BARE = """global
    nbthread {threads}
    maxconn 2000
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend bare
    bind 127.0.0.1:{port}
    default_backend memory
backend memory
    server one 127.0.0.1:{behind} maxconn 512
"""


def bare_proxy(folder: Path, behind: int) -> contextlib.AbstractContextManager[Running]:
    """Pass requests on with no rule and no log: what any HAProxy costs on this machine."""
    port = free_port()
    threads = min(4, len(os.sched_getaffinity(0)))
    config = folder / "bare.cfg"
    config.write_text(_BARE.format(port=port, behind=behind, threads=threads))
    return running([process.find()[0], "-f", str(config)], port, says_200)


def says_200(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    folder.mkdir()
    one = World(folder)
    try:
        yield one
    finally:
        one.close()
