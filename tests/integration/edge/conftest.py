"""A gateway of each HAProxy version, and a client without limits of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.gateways import Edge, edge


@pytest.fixture(params=["2.6", "2.8"])
async def one(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Edge]:
    async with edge(tmp_path, request.param) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(20)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
    ) as session:
        yield session
