"""Asks a server whether it is ready."""

import asyncio

import aiohttp
import msgspec

from serai.model import Server
from serai_agent.local.health import Verdict

READ_LIMIT_BYTES = 2048


class Prober:
    """One client for all probes; a connection per probe, so that none is held on a replica."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, server: Server, path: str) -> tuple[Verdict, str]:
        """Return what the server answered, and in a few words what it said."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        url = f"http://{_bracketed(server.host)}:{server.port}{path}"
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._session.get(url, allow_redirects=False) as response:
                    body = await response.content.read(READ_LIMIT_BYTES)
                    return _judge(response.status, path, body)
        except aiohttp.ClientConnectorError:
            return Verdict.REFUSED, f"nothing listens on port {server.port} yet, its $PORT"
        except TimeoutError:
            return Verdict.SILENT, f"GET {path} had no answer within {self._timeout_s:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return Verdict.SILENT, f"GET {path}: {error or type(error).__name__}"

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _judge(status: int, path: str, body: bytes) -> tuple[Verdict, str]:
    if status < 400:
        return Verdict.READY, ""
    hint = "; set readiness.path to one that it has" if status == 404 else ""
    text = _phase(body) or body.decode("utf-8", "replace").strip().replace("\n", " ")[:120]
    said = f": {text}" if text and status != 404 else ""
    return Verdict.NOT_READY, f"GET {path} answers {status}{said}{hint}"


def _phase(body: bytes) -> str:
    """Return the phase that a body names as the runtime's do, such as `loading`; else nothing."""
    try:
        return msgspec.json.decode(body, type=dict[str, str]).get("phase", "")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
