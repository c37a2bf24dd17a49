"""Uploads against a real server, over lines that break."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import aiohttp
import pytest

from serai.blobs import PART_BYTES, read_all
from serai.clock import SimClock, SystemClock
from serai.errors import ConfigError, Refused, Unavailable
from serai.model import digest_of
from serai_cli.project.blob_client import Target
from serai_cli.project.bundle import Source, in_memory
from serai_cli.project.upload import ATTEMPTS, Progress, upload
from tests.integration.project.serving import Served, contents, serving
from tests.support.cutting_proxy import cutting_proxy
from tests.support.ports import free_port


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def send(
    session: aiohttp.ClientSession, url: str, sources: list[Source], seen: list[Progress]
) -> Progress:
    return await upload(session, Target(url), sources, seen.append, SimClock(), Random(1))


async def test_brings_over_what_is_missing_and_only_that(
    server: Served, session: aiohttp.ClientSession
) -> None:
    sources = contents(0, 10, 5_000_000, *range(1000, 1050))
    seen: list[Progress] = []
    done = await send(session, server.url, sources, seen)
    assert await server.stored() == {source.digest: source.size_bytes for source in sources}
    total_bytes = sum(source.size_bytes for source in sources)
    assert done == Progress(total_bytes, total_bytes, len(sources), len(sources))
    assert [p.sent_bytes for p in seen] == sorted(p.sent_bytes for p in seen)
    server.requests.clear()
    fresh = in_memory(b"changed", "fresh")
    done = await send(session, server.url, [*sources, fresh], seen)
    assert done == Progress(7, 7, 1, 1)
    assert [r for r in server.requests if not r.endswith("missing")] == ["POST /v1/blobs/batch"]


async def test_many_small_files_need_few_requests(
    server: Served, session: aiohttp.ClientSession
) -> None:
    sources = contents(*(10 + number for number in range(3000)))
    await send(session, server.url, sources, [])
    assert len(await server.stored()) == 3000
    assert len(server.requests) <= 5


async def test_a_big_file_goes_over_in_parts(
    server: Served, session: aiohttp.ClientSession
) -> None:
    (source,) = contents(2 * PART_BYTES + 12_345)
    await send(session, server.url, [source], [])
    assert await read_all(server.blobs, source.digest, source.size_bytes) == source.data
    assert [blob async for blob in server.parts.list()] == []
    assert len([r for r in server.requests if r.startswith("PUT /v1/blobs/parts/")]) == 3


async def test_a_big_file_of_equal_parts_sends_them_once(
    server: Served, session: aiohttp.ClientSession
) -> None:
    source = in_memory(bytes(3 * PART_BYTES), "zeros")
    done = await send(session, server.url, [source], [])
    assert done.sent_bytes == source.size_bytes
    assert await server.stored() == {source.digest: source.size_bytes}
    assert len([r for r in server.requests if r.startswith("PUT")]) == 1


async def test_goes_on_where_a_broken_line_cut_it_off(
    server: Served, session: aiohttp.ClientSession
) -> None:
    sources = contents(3 * PART_BYTES, 9_000_000, *([400_000] * 40))
    cuts = iter([9_000_000, 100_000, 20_000_000, 3_000_000, 0, 500_000, 30_000_000])
    seen: list[Progress] = []
    async with cutting_proxy(server.port, cuts) as proxy:
        done = await send(session, f"http://127.0.0.1:{proxy.port}", sources, seen)
    assert proxy.cuts >= 5
    assert await server.stored() == {source.digest: source.size_bytes for source in sources}
    assert done.sent_files == done.total_files == len(sources)
    parts = [r for r in server.requests if r.startswith("PUT /v1/blobs/parts/")]
    assert len(parts) < 3 * 7, "parts that had arrived were sent again"


async def test_a_line_that_never_carries_anything_is_given_up(
    server: Served, session: aiohttp.ClientSession
) -> None:
    clock = SimClock()
    began_s = clock.now()
    async with cutting_proxy(server.port, itertools.repeat(20)) as proxy:
        target = Target(f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Unavailable, match="deploy again to resume"):
            await upload(session, target, contents(10), lambda _: None, clock, Random(1))
    assert proxy.cuts >= ATTEMPTS
    assert clock.now() - began_s > 10
    assert await server.stored() == {}


async def test_a_scheduler_that_is_away_is_said_to_be(session: aiohttp.ClientSession) -> None:
    port = free_port()
    with pytest.raises(Unavailable, match=f"cannot connect to 127.0.0.1:{port}"):
        await send(session, f"http://127.0.0.1:{port}", contents(10), [])


@pytest.mark.parametrize("size_bytes", [1_000, 6_000_000, 20_000_000])
async def test_a_file_that_changes_meanwhile_is_named(
    server: Served, session: aiohttp.ClientSession, tmp_path: Path, size_bytes: int
) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"a" * size_bytes)
    digest = digest_of(path.read_bytes())
    source = Source(digest, size_bytes, label="weights.bin", file=str(path))
    path.write_bytes(b"b" * size_bytes)
    with pytest.raises(ConfigError, match=r"weights\.bin was changed while it was uploaded"):
        await send(session, server.url, [*contents(5), source], [])
    path.write_bytes(b"a" * (size_bytes - 1))
    with pytest.raises(ConfigError, match=r"weights\.bin was changed while it was uploaded"):
        await send(session, server.url, [source], [])
    path.unlink()
    with pytest.raises(ConfigError, match=r"weights\.bin was changed while it was uploaded"):
        await send(session, server.url, [source], [])
    assert digest not in await server.stored()


async def test_two_deploys_of_the_same_content_at_once(
    server: Served, session: aiohttp.ClientSession
) -> None:
    sources = contents(2 * PART_BYTES + 1, 6_000_000, *([50_000] * 20))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for seed in range(3):
            one = upload(
                session, Target(server.url), sources, lambda _: None, SystemClock(), Random(seed)
            )
            group.create_task(one)
    assert await server.stored() == {source.digest: source.size_bytes for source in sources}


async def test_a_wrong_name_for_content_is_refused_and_nothing_kept(
    server: Served, session: aiohttp.ClientSession
) -> None:
    (good,) = contents(100)
    lying = replace(good, digest=digest_of(b"other"))
    with pytest.raises(ConfigError, match="file-0 was changed"):
        await send(session, server.url, [lying], [])
    assert await server.stored() == {}


async def test_what_is_no_scheduler_is_said_to_be_none(session: aiohttp.ClientSession) -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(hello, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises((Unavailable, Refused), match="not a Serai scheduler"):
            await send(session, f"http://127.0.0.1:{port}", contents(1), [])
