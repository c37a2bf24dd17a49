"""A TCP proxy that lets requests through but loses answers, as a line does that breaks between."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PIECE_BYTES = 64 * 2**10


class LosingProxy:
    """Passes connections on to a port of 127.0.0.1 and counts the requests that begin with `what`.

    Of those it loses the answers to the next `lose`, and the connections with them.
    """

    def __init__(self, port: int, what: bytes) -> None:
        self._upstream = port
        self._what = what
        self.port = 0
        self.lose = 0
        self.passed = 0

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
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def losing_proxy(port: int, what: bytes) -> AsyncIterator[LosingProxy]:
    """Run a proxy to a port of this machine; `.port` is where it listens."""
    proxy = LosingProxy(port, what)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
