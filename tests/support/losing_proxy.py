"""A TCP proxy that lets requests through but loses answers, or has them come late."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.proxies import accepting

PIECE_BYTES = 64 * 2**10


class LosingProxy:
    """Passes connections on to a port of 127.0.0.1 and counts the requests that begin with `what`.

    Of those it loses the answers to the next `lose`, and the connections with them. All answers are
    `late_s` late.
    """

    def __init__(self, port: int, what: bytes) -> None:
        self._upstream = port
        self._what = what
        self.port = 0
        self.lose = 0
        self.passed = 0
        self.late_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection, one request after another."""
        answers, upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
        losing = asyncio.Event()
        back = asyncio.create_task(self._back(answers, writer, losing))
        try:
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(PIECE_BYTES):
                    if piece.startswith(self._what):
                        self.passed += 1
                        if self.lose:
                            self.lose -= 1
                            losing.set()
                    upstream.write(piece)
                    await upstream.drain()
        finally:
            back.cancel()
            for end in (upstream, writer):
                end.transport.abort()
            await asyncio.gather(back, return_exceptions=True)

    async def _back(
        self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while (piece := await answers.read(PIECE_BYTES)) and not losing.is_set():
                await asyncio.sleep(self.late_s)  # noqa: TID251  # a slow line is what is tested
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def losing_proxy(port: int, what: bytes) -> AsyncIterator[LosingProxy]:
    """Run a proxy to a port of this machine; `.port` is where it listens."""
    proxy = LosingProxy(port, what)
    async with accepting(proxy.serve) as proxy.port:
        yield proxy
