"""The scheduler's HTTP interface to blobs as the CLI uses it: one method per request."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import aiohttp

from serai import wire
from serai.blobs import CHUNK_BYTES, PAGE_DIGESTS, Composition
from serai.errors import ConfigError, Refused, Unavailable
from serai.http import error_of, read_answer, translated
from serai.operator import Digests
from serai_cli.project.bundle import Source
from serai_cli.project.packing import Batch, Piece
from serai_cli.project.reading import body_of, changed

CONNECT_LIMIT_S = 15.0
ANSWER_LIMIT_S = 60.0
SLOWEST_BYTES_PER_S = 32 * 2**10
COMPOSED_BYTES_PER_S = 10 * 2**20
WHAT = "upload"


@dataclass(frozen=True)
class Target:
    """A scheduler: its address and the token to show ("" for none)."""

    url: str
    token: str = ""

    def headers(self) -> dict[str, str]:
        """Return the headers that every request carries."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class BlobClient:
    """Asks and sends; raises Unavailable, Refused or ConfigError as the port does."""

    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        self._session = session
        self._base = target.url.rstrip("/") + "/v1/blobs"
        self._headers = target.headers()

    async def missing(self, digests: Sequence[str], parts: bool = False) -> list[str]:
        """Return those that the scheduler lacks, in the order given."""
        url = f"{self._base}/parts/missing" if parts else f"{self._base}/missing"
        lacking: list[str] = []
        for start in range(0, len(digests), PAGE_DIGESTS):
            page = Digests(digests=tuple(digests[start : start + PAGE_DIGESTS]))
            async with (
                translated(WHAT),
                asyncio.timeout(ANSWER_LIMIT_S),
                self._session.post(
                    url, data=wire.encode(page), headers=self._headers, timeout=_limits()
                ) as response,
            ):
                lacking += (await read_answer(response, Digests)).digests
        return lacking

    async def send(self, package: Batch | Piece, on_bytes: Callable[[int], None]) -> None:
        """Send one package; `on_bytes` hears of each run of bytes as it leaves."""
        body = await asyncio.to_thread(body_of, package)
        if isinstance(package, Batch):
            method, url, sources = "POST", f"{self._base}/batch", package.sources
        else:
            folder = f"{self._base}/parts" if package.is_part else self._base
            method, url, sources = "PUT", f"{folder}/{package.digest}", (package.source,)
        try:
            await self._send_body(method, url, body, on_bytes)
        except Refused as error:
            if error.code in ("digest_mismatch", "size_mismatch"):
                raise changed(_label(sources, str(error))) from error
            raise

    async def _send_body(
        self, method: str, url: str, body: bytearray, on_bytes: Callable[[int], None]
    ) -> None:
        headers = {**self._headers, "Content-Length": str(len(body))}
        async with (
            translated(WHAT),
            asyncio.timeout(ANSWER_LIMIT_S + len(body) / SLOWEST_BYTES_PER_S),
            self._session.request(
                method, url, data=_runs(body, on_bytes), headers=headers, timeout=_limits()
            ) as response,
        ):
            await _expect_done(response)

    async def compose(self, source: Source, parts: Sequence[Piece]) -> None:
        """Have a big file put together; Unavailable when parts went away meanwhile."""
        asked = Composition(parts=tuple(p.digest for p in parts), size_bytes=source.size_bytes)
        limit_s = ANSWER_LIMIT_S + source.size_bytes / COMPOSED_BYTES_PER_S
        try:
            async with (
                translated(WHAT),
                asyncio.timeout(limit_s),
                self._session.post(
                    f"{self._base}/{source.digest}/compose",
                    data=wire.encode(asked),
                    headers=self._headers,
                    timeout=_limits(answer_s=limit_s),
                ) as response,
            ):
                await _expect_done(response)
        except Refused as error:
            if error.code == "no_part":
                raise Unavailable(str(error)) from error
            if error.code in ("digest_mismatch", "size_mismatch"):
                raise changed(source.label) from error
            raise


def _limits(answer_s: float = ANSWER_LIMIT_S) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S, sock_read=answer_s)


async def _runs(body: bytearray, on_bytes: Callable[[int], None]) -> AsyncIterator[memoryview]:
    room = memoryview(body)
    for start in range(0, len(body), CHUNK_BYTES):
        run = room[start : start + CHUNK_BYTES]
        yield run
        on_bytes(len(run))


async def _expect_done(response: aiohttp.ClientResponse) -> None:
    raw = await response.read()
    if response.status >= 400:
        raise error_of(response.status, response.content_type, raw)
    if response.status != 204:
        raise ConfigError(
            f"{response.url.origin()} answered {response.status} to an upload; it is not a Serai "
            "scheduler, or one of another version"
        )


def _label(sources: Sequence[Source], told: str) -> str:
    named = (source.label for source in sources if source.digest[:12] in told)
    return next(named, sources[0].label)
