"""A way to the package index for machines without one: `python -m tests.support.connect_proxy`.

It connects to whatever is asked for (HTTP's CONNECT) and carries bytes both ways.
"""

import asyncio
import contextlib
import sys

PIECE_BYTES = 64 * 2**10
CONNECT_LIMIT_S = 10.0


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one connection to its end."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b" ", 2)
        host, _, port = target.decode().rpartition(":")
        if method != b"CONNECT":
            writer.write(b"HTTP/1.1 405 only CONNECT\r\n\r\n")
            return
        async with asyncio.timeout(CONNECT_LIMIT_S):
            answers, upstream = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 connected\r\n\r\n")
        await asyncio.gather(_carry(reader, upstream), _carry(answers, writer))
    writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def main(host: str, port: int) -> None:
    server = await asyncio.start_server(serve, host, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
