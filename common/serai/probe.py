"""Asks a server whether it is ready."""

import asyncio
import errno

import aiohttp

from serai.model import Server
from serai.readiness import Verdict, judged, nobody_on

READ_LIMIT_BYTES = 2048


class Prober:
    """One client for all probes; a connection per probe, so that none is held on a replica."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self, server: Server, path: str, inside: int | None = None
    ) -> tuple[Verdict, str]:
        """Return what the server answered, and in a few words what it said.

        `inside` is the port of its container that is published as the server's, if it is in one:
        what publishes it takes connections that nobody in the container does.
        """
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        url = f"http://{_bracketed(server.host)}:{server.port}{path}"
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._session.get(url, allow_redirects=False) as response:
                    body = await response.content.read(READ_LIMIT_BYTES)
                    return judged(response.status, path, body)
        except TimeoutError:
            return Verdict.SILENT, f"GET {path} had no answer within {self._timeout_s:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return _failed(error, server, path, inside)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _failed(error: Exception, server: Server, path: str, inside: int | None) -> tuple[Verdict, str]:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ECONNREFUSED:
        return Verdict.REFUSED, nobody_on(server.port, inside)
    # A reset shows while connecting, while writing or while reading, as time will have it.
    reset = number in (errno.ECONNRESET, errno.EPIPE)
    if reset or isinstance(error, aiohttp.ServerDisconnectedError):
        if inside is not None:
            return Verdict.CLOSED, nobody_on(server.port, inside)
        return Verdict.CLOSED, f"GET {path}: the connection was closed without an answer"
    if isinstance(error, aiohttp.ClientConnectorError):
        why = error.os_error.strerror or "no connection"
        return Verdict.SILENT, f"{server.host}:{server.port} cannot be reached: {why}"
    return Verdict.SILENT, f"GET {path}: {error or type(error).__name__}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
