"""Requests to a gateway, by a client and as bytes."""

import asyncio

import aiohttp
from yarl import URL

from tests.support.gateways import Edge


async def get(
    client: aiohttp.ClientSession, url: str | URL, **more: object
) -> tuple[int, dict[str, str], str]:
    async with client.get(url, **more) as response:  # type: ignore[arg-type]
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status, headers, await response.text()


async def raw(one: Edge, *requests: bytes) -> bytes:
    """Send requests on one connection and return all that comes until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    try:
        for request in requests:
            writer.write(request)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
