"""The HTTP interface to blobs: limits, bad input, uploads that are cut off, full disks."""

import asyncio
import io
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from serai.blobs import (
    BATCH_BLOB_MAX_BYTES,
    BATCH_MAX_BYTES,
    BATCH_RECORD,
    PAGE_DIGESTS,
    MemoryBlobs,
)
from serai.clock import SimClock, SystemClock
from serai.errors import Refused
from serai.http import PROBLEM_TYPE
from serai.model import digest_of
from serai_cli.project.blob_client import Target
from serai_cli.project.upload import upload
from tests.integration.project.serving import Served, contents, serving
from tests.support.wait import auntil

DATA = b"model weights"
DIGEST = digest_of(DATA)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


@pytest.fixture
async def http(server: Served) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as opened:
        yield opened


async def told(
    http: aiohttp.ClientSession, method: str, path: str, data: Any = None
) -> tuple[int, str]:
    """Return status and problem code ("" when it went well)."""
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    async with http.request(method, f"/v1/blobs{path}", data=body) as response:
        raw = await response.read()
        if response.status < 400:
            return response.status, ""
        assert response.content_type == PROBLEM_TYPE, raw
        body = json.loads(raw)
        assert body["status"] == response.status and body["detail"] and body["title"]
        return response.status, body["code"]


def batch(*records: tuple[str, int, bytes]) -> bytes:
    return b"".join(
        BATCH_RECORD.pack(bytes.fromhex(digest), size_bytes) + data
        for digest, size_bytes, data in records
    )


async def test_a_blob_is_put_asked_about_and_fetched(
    server: Served, http: aiohttp.ClientSession
) -> None:
    assert await told(http, "GET", f"/{DIGEST}") == (404, "no_blob")
    assert await told(http, "PUT", f"/{DIGEST}", DATA) == (204, "")
    assert await told(http, "PUT", f"/{DIGEST}", DATA) == (204, "")
    async with http.get(f"/v1/blobs/{DIGEST}") as response:
        assert response.content_length == len(DATA)
        assert await response.read() == DATA
    other = digest_of(b"other")
    async with http.post("/v1/blobs/missing", json={"digests": [DIGEST, other]}) as response:
        assert await response.json() == {"digests": [other]}


@pytest.mark.parametrize(
    ("method", "path", "data", "status", "code"),
    [
        ("PUT", f"/{DIGEST}", b"other", 422, "digest_mismatch"),
        ("PUT", "/ABC", DATA, 400, "bad_digest"),
        ("PUT", "/..%2F..%2Fetc%2Fpasswd", DATA, 400, "bad_digest"),
        ("GET", "/..%2F..%2Fetc%2Fpasswd", None, 400, "bad_digest"),
        ("POST", "/missing", b"{", 400, "bad_request"),
        ("POST", "/missing", b'{"digests": ["../x"]}', 400, "bad_digest"),
        ("POST", "/missing", json.dumps({"digests": [DIGEST] * 10_001}), 413, "too_many_digests"),
        ("POST", "/missing", b" " * (2**20 + 1), 413, "body_too_large"),
        ("POST", "/batch", batch((DIGEST, 5, b"other")), 422, "digest_mismatch"),
        ("POST", "/batch", batch((DIGEST, 20, DATA)), 400, "bad_batch"),
        ("POST", "/batch", b"short", 400, "bad_batch"),
        ("POST", "/batch", batch((DIGEST, BATCH_BLOB_MAX_BYTES + 1, b"")), 413, "blob_too_large"),
        ("POST", "/batch", batch((DIGEST, 2**63, b"")), 413, "blob_too_large"),
        ("POST", "/batch", bytes(BATCH_MAX_BYTES + 100_000), 413, "body_too_large"),
        ("PUT", f"/parts/{DIGEST}", bytes(16 * 2**20 + 1), 413, "body_too_large"),
        ("POST", f"/{DIGEST}/compose", b'{"parts": [], "size_bytes": 1}', 400, "bad_request"),
        (
            "POST",
            f"/{DIGEST}/compose",
            json.dumps({"parts": [DIGEST], "size_bytes": 13}),
            409,
            "no_part",
        ),
    ],
)
async def test_bad_input_is_a_problem_and_leaves_nothing(
    server: Served,
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    data: Any,
    status: int,
    code: str,
) -> None:
    assert await told(http, method, path, data) == (status, code)
    assert await server.stored() == {}


async def test_a_full_page_of_digests_fits(http: aiohttp.ClientSession) -> None:
    page = [digest_of(str(number).encode()) for number in range(PAGE_DIGESTS)]
    async with http.post("/v1/blobs/missing", json={"digests": page}) as response:
        assert (await response.json())["digests"] == page


async def test_a_length_must_be_said(http: aiohttp.ClientSession) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield DATA

    assert await told(http, "PUT", f"/{DIGEST}", chunks()) == (411, "length_required")


async def test_in_a_batch_each_blob_stands_for_itself(
    server: Served, http: aiohttp.ClientSession
) -> None:
    good, empty = b"good", b""
    body = batch(
        (digest_of(good), len(good), good),
        (digest_of(empty), 0, empty),
        (DIGEST, 4, b"evil"),
    )
    assert await told(http, "POST", "/batch", body) == (422, "digest_mismatch")
    assert set(await server.stored()) == {digest_of(good), digest_of(empty)}


async def test_parts_that_make_another_file_are_refused(
    server: Served, http: aiohttp.ClientSession
) -> None:
    assert await told(http, "PUT", f"/parts/{DIGEST}", DATA) == (204, "")
    asked = json.dumps({"parts": [DIGEST, DIGEST], "size_bytes": 26})
    assert await told(http, "POST", f"/{DIGEST}/compose", asked) == (422, "digest_mismatch")
    whole = digest_of(DATA * 2)
    assert await told(http, "POST", f"/{whole}/compose", asked) == (204, "")
    assert await told(http, "POST", f"/{whole}/compose", asked) == (204, "")
    assert await server.stored() == {whole: 26}


@pytest.mark.parametrize("size_bytes", [100_000, 12_000_000])
async def test_an_upload_that_is_cut_off_leaves_nothing(
    server: Served, tmp_path: Path, size_bytes: int
) -> None:
    (source,) = contents(size_bytes)
    head = (
        f"PUT /v1/blobs/{source.digest} HTTP/1.1\r\nHost: x\r\nContent-Length: {size_bytes}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head.encode() + source.data[: size_bytes - 1])
    await writer.drain()
    await auntil(lambda: server.requests, what="the request was not begun")
    writer.transport.abort()
    await auntil(lambda: not left_below(tmp_path), what="something was left behind")
    assert await server.stored() == {}
    assert reader.at_eof() or reader.exception()


def left_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a file system of 3 MiB; only root can make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "serai-test", str(folder)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    if made.returncode:
        why = f"a small file system cannot be mounted (root can): {made.stderr.strip()}"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


@pytest.mark.parametrize("size_bytes", [4_000_000, 10_000_000])
async def test_a_full_disk_is_said_and_leaves_room_for_less(
    small_disk: Path, size_bytes: int
) -> None:
    (big,) = contents(size_bytes)
    async with serving(small_disk) as server, aiohttp.ClientSession(server.url) as http:
        assert await told(http, "PUT", f"/{big.digest}", big.data) == (507, "disk_full")
        await auntil(lambda: shutil.disk_usage(small_disk).free > 2_500_000)
        assert await told(http, "PUT", f"/{DIGEST}", DATA) == (204, "")
        assert await server.stored() == {DIGEST: len(DATA)}


async def test_a_full_disk_is_not_kept_full_by_parts_of_what_did_not_fit(
    small_disk: Path,
) -> None:
    half, rest = contents(1_500_000)[0], contents(4_000_000)[0]
    async with serving(small_disk) as server, aiohttp.ClientSession(server.url) as http:
        assert await told(http, "PUT", f"/parts/{half.digest}", half.data) == (204, "")
        assert await told(http, "PUT", f"/parts/{rest.digest}", rest.data) == (507, "disk_full")
        await auntil(lambda: shutil.disk_usage(small_disk).free > 2_500_000)
        assert await told(http, "PUT", f"/{DIGEST}", DATA) == (204, "")


async def test_a_store_without_room_is_said_to_have_none(tmp_path: Path) -> None:
    full = MemoryBlobs(SystemClock().wall, room_bytes=5)
    async with serving(tmp_path, full) as server, aiohttp.ClientSession(server.url) as http:
        assert await told(http, "PUT", f"/{DIGEST}", DATA) == (507, "disk_full")
        assert await told(http, "POST", "/batch", batch((DIGEST, 13, DATA))) == (507, "disk_full")
        with pytest.raises(Refused) as caught:
            await upload(
                http, Target(server.url), contents(6), lambda _: None, SimClock(), Random(1)
            )
        assert caught.value.code == "disk_full"
        assert len(server.requests) == 4, "a full disk was tried again"
