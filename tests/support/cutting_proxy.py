"""A TCP proxy that cuts connections after so many bytes, as a bad line does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from tests.support.proxies import accepting

PIECE_BYTES = 16 * 2**10


class CuttingProxy:
    """Passes connections on to a port of 127.0.0.1; each of them only as far as it is given.

    `allowances` yields, per connection, how many bytes the client may send before it is cut off
    (None for any number); when it ends, connections are no longer cut.
    """

    def __init__(self, port: int, allowances: Iterator[int | None]) -> None:
        self._upstream = port
        self._allowances = allowances
        self.port = 0
        self.cuts = 0
        self.passed_bytes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
        back = asyncio.create_task(self._carry(upstream_reader, writer, None))
        try:
            await self._carry(reader, upstream, next(self._allowances, None))
        finally:
            back.cancel()
            for end in (upstream, writer):
                end.transport.abort()
            with contextlib.suppress(asyncio.CancelledError):
                await back

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(PIECE_BYTES):
                if left is not None:
                    left -= len(piece)
                    if left < 0:
                        self.cuts += 1
                        return
                    self.passed_bytes += len(piece)
                writer.write(piece)
                await writer.drain()


@asynccontextmanager
async def cutting_proxy(port: int, allowances: Iterator[int | None]) -> AsyncIterator[CuttingProxy]:
    """Run a proxy to a port of this machine; `.port` is where it listens."""
    proxy = CuttingProxy(port, allowances)
    async with accepting(proxy.serve) as proxy.port:
        yield proxy
