"""One replica behind the gateways of these tests."""

from collections.abc import AsyncIterator

import pytest

from tests.support.gateways import Backend


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    one = Backend("one")
    await one.start()
    yield one
    one.release.set()
    await one.stop()
