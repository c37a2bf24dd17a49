"""A uv that somebody ends says nothing about the lock."""

import asyncio
from pathlib import Path

import pytest

from serai.errors import Unavailable
from serai_agent.cache.uv_tool import OWN, end_leftovers, install, make_environment
from tests.support.wait import auntil

LIMIT_S = 60.0


async def test_a_build_that_is_killed_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the agent's unit is stopped with all of its processes, or memory runs out."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    home, lock = tmp_path / "home", tmp_path / "lock.txt"
    lock.write_text(f"nothing==1.0 --hash=sha256:{'0' * 64}\n")
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as index:
        port = index.sockets[0].getsockname()[1]
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{port}/simple")
        await make_environment(home, OWN, LIMIT_S)
        building = asyncio.create_task(install(home, lock, LIMIT_S))
        await auntil(lambda: building.done() or end_leftovers(tmp_path) > 0)
        with pytest.raises(Unavailable, match="uv was ended by signal 9"):
            await building
