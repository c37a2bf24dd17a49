"""An HTTP server that is not the one that was meant: it gives the same answer to everything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class WrongServer:
    """`port` is where it listens, `heads` are the requests that it got, without their bodies."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[str] = []


@asynccontextmanager
async def wrong_server(body: bytes, header: str, status: int = 200) -> AsyncIterator[WrongServer]:
    """Run one for as long as the block lasts."""
    made = WrongServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        head = f"HTTP/1.1 {status} Some\r\n{header}\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()
