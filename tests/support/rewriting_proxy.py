"""A TCP proxy in a thread that puts other words of the same length into answers."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.proxies import accepting

PIECE_BYTES = 64 * 2**10
START_LIMIT_S = 10.0
UNPACKED = {b"gzip": b"none", b"deflate": b"nothing"}
"""What requests ask for, and what they are made to: no words are found in packed answers."""


class RewritingProxy:
    """Passes connections on to a port of 127.0.0.1; `changes` are made in what comes back.

    Those in `asked` are made in what is sent there. Both may be set at any time. Words that come in
    two pieces stay as they are.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self.port = 0
        self.changes: dict[bytes, bytes] = {}
        self.asked: dict[bytes, bytes] = {}

    @contextmanager
    def changing(self, words: bytes, others: bytes) -> Iterator[None]:
        """Put others in the place of these words for as long as the block lasts."""
        assert len(words) == len(others), "an answer tells its length before its words"
        self.changes = {words: others}
        try:
            yield
        finally:
            self.changes = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until either side ends it."""
        answers, upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
        ways = [
            asyncio.create_task(self._carry(reader, upstream, lambda: UNPACKED | self.asked)),
            asyncio.create_task(self._carry(answers, writer, lambda: self.changes)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (upstream, writer):
                end.transport.abort()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        changes: Callable[[], dict[bytes, bytes]],
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                for words, others in changes().items():
                    piece = piece.replace(words, others)
                writer.write(piece)
                await writer.drain()


@contextmanager
def rewriting_proxy(port: int) -> Iterator[RewritingProxy]:
    """Run a proxy to a port of this machine; `.port` is where it listens."""
    proxy, ready, stop = RewritingProxy(port), threading.Event(), threading.Event()

    async def run() -> None:
        async with accepting(proxy.serve) as proxy.port:
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(START_LIMIT_S)
        yield proxy
    finally:
        stop.set()
        thread.join()
