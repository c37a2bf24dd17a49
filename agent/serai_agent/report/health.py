"""The agent's own HTTP listener: /healthz, /readyz and /metrics.

The status is the answer: 200 or 503. `/healthz` says that the process turns its loop, `/readyz`
that it does its work; the words are for people.
"""

import hmac
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry

from serai import metrics
from serai.errors import ConfigError
from serai.http import answer, problem
from serai.model import Value

Problems = Callable[[], tuple[str, ...]]
"""Says why the agent is not ready, in words; an empty tuple when it is."""

OPEN_PATHS = ("/healthz", "/readyz")
SHUTDOWN_S = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Access:
    """Who may ask for more than health: whoever has the token ("" for everybody), over TLS."""

    token: str = ""
    tls: ssl.SSLContext | None = None


class Health(Value):
    """The body of /healthz and /readyz."""

    ok: bool
    problems: tuple[str, ...] = ()


def application(
    registry: CollectorRegistry, problems: Problems, token: str = ""
) -> web.Application:
    """Return the routes, for a listener of their own."""

    async def healthz(request: web.Request) -> web.Response:
        return answer(Health(ok=True))

    async def readyz(request: web.Request) -> web.Response:
        found = problems()
        return answer(Health(ok=not found, problems=found), 503 if found else 200)

    async def show_metrics(request: web.Request) -> web.Response:
        headers = {"Content-Type": metrics.CONTENT_TYPE}
        return web.Response(body=metrics.render(registry), headers=headers)

    app = web.Application(middlewares=[_guarded(token)] if token else [])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
    return app


def _guarded(token: str) -> Middleware:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if request.path in OPEN_PATHS or hmac.compare_digest(given, expected):
            return await handler(request)
        return problem(401, "unauthorized", "the token is missing or wrong")

    return guard


@asynccontextmanager
async def listening(
    host: str,
    port: int,
    registry: CollectorRegistry,
    problems: Problems,
    access: Access = Access(),
    more: Sequence[web.RouteDef] = (),
) -> AsyncIterator[int]:
    """Listen for as long as the block lasts; yields the port (useful when `port` is 0).

    `more` are routes of others. ConfigError when the address cannot be had.
    """
    app = application(registry, problems, access.token)
    app.add_routes(more)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=access.tls)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(
                f"the agent cannot listen on {host}:{port}: {error.strerror or error}; "
                "choose another address or end what holds it"
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
