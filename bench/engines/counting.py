"""A proxy in front of an engine's HTTP API that counts the requests, and may change what is sent.

It lives in a thread of its own; blocking queries and streams pass through as they come.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import aiohttp
from aiohttp import web

START_LIMIT_S = 10.0
HOP_HEADERS = frozenset({"connection", "transfer-encoding", "content-length", "host", "keep-alive"})
CONNECTIONS = 2000

Change = Callable[[str, bytes], bytes]
"""From a request's method and path, and its body, to the body that is sent on."""


def unchanged(what: str, body: bytes) -> bytes:
    """Return the body as it is."""
    return body


class CountingProxy:
    """Passes requests on to a port of this machine; `counts` has one entry for each kind."""

    def __init__(self, upstream_port: int, change: Change) -> None:
        self.port = 0
        self.counts: Counter[str] = Counter()
        self._upstream = f"http://127.0.0.1:{upstream_port}"
        self._change = change
        self._session: aiohttp.ClientSession | None = None
        self._ending = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, started: Callable[[], None]) -> None:
        """Serve until `end`; `port` is set when `started` is called."""
        self._loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as self._session:
            app = web.Application(client_max_size=2**26)
            app.router.add_route("*", "/{path:.*}", self._pass_on)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            started()
            await self._ending.wait()
            await runner.cleanup()

    def end(self) -> None:
        """Let `run` end; called from another thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        self.counts[kind_of(request.method, request.path)] += 1
        body = self._change(f"{request.method} {request.path}", await request.read())
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_HEADERS}
        async with self._session.request(
            request.method, f"{self._upstream}{request.path_qs}", data=body, headers=headers
        ) as found:
            told = {k: v for k, v in found.headers.items() if k.lower() not in HOP_HEADERS}
            answer = web.StreamResponse(status=found.status, headers=told)
            with suppress(aiohttp.ClientError, ConnectionError):  # whoever asked may have gone
                await answer.prepare(request)
                async for piece in found.content.iter_any():
                    await answer.write(piece)
            return answer


def kind_of(method: str, path: str) -> str:
    """Return what sort of request it is: the method and the path without names."""
    parts = path.strip("/").split("/")[1:]
    return f"{method} {'/'.join([*parts[:2], *('…' for _ in parts[2:3])])}" if parts else method


@contextmanager
def counting_proxy(upstream_port: int, change: Change = unchanged) -> Iterator[CountingProxy]:
    """Run a proxy to a port of this machine for as long as the block lasts."""
    proxy = CountingProxy(upstream_port, change)
    ready = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.run(ready.set)), daemon=True)
    thread.start()
    if not ready.wait(START_LIMIT_S):
        raise RuntimeError("the counting proxy does not start")
    try:
        yield proxy
    finally:
        proxy.end()
        thread.join(START_LIMIT_S)
