"""Letting the requests under way finish, their bodies included, before a server ends.

aiohttp's own clean-up takes in nothing more once it begins: an upload under way would stand still.
"""

import asyncio

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware


class Finishing:
    """Counts what is under way in one application."""

    def __init__(self) -> None:
        self._count = 0
        self._ending = False
        self._idle = asyncio.Event()
        self._idle.set()

    def middleware(self) -> Middleware:
        """Return what counts; it belongs before all that answers."""

        @web.middleware
        async def counting(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._count += 1
            self._idle.clear()
            try:
                return await handler(request)
            finally:
                self._count -= 1
                if not self._count:
                    self._idle.set()

        return counting

    def watch(self, app: web.Application) -> None:
        """Let an application's answers end their connections once it is about to end."""

        async def last(request: web.Request, response: web.StreamResponse) -> None:
            if self._ending:
                response.headers[hdrs.CONNECTION] = "close"
                response.force_close()

        app.on_response_prepare.append(last)

    async def finish(self, runner: web.BaseRunner, limit_s: float) -> bool:
        """Take no new connection and wait for what is under way; False when some is left then."""
        self._ending = True
        for site in runner.sites:
            await site.stop()
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
