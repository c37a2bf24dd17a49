"""How this node calls schedulers: where, with which token, and for which blobs."""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Self
from urllib.parse import quote, urlsplit

import aiohttp

from serai import wire
from serai.errors import ConfigError, Refused, SeraiError, Unavailable
from serai.http import error_of, read_start, translated
from serai.listening import is_loopback
from serai.waking import WakeProgress
from serai_agent.report.sender import TLS_KEYS

CONNECT_LIMIT_S = 5.0
SILENCE_LIMIT_S = 30.0
CHUNK_BYTES = 2**18
MAX_ANSWER_BYTES = 2**16


class Schedulers:
    """Calls to schedulers, for an `async with` block.

    `leader` tells the leader's address, "" for unknown; `others` are asked for blobs after it.
    The token is sent only over TLS or within the machine, unless `insecure`.
    """

    def __init__(
        self,
        leader: Callable[[], str],
        others: Sequence[str],
        token: str,
        tls: ssl.SSLContext,
        insecure: bool = False,
    ) -> None:
        self._leader = leader
        self._others = tuple(others)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = tls
        self._insecure = insecure
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_LIMIT_S, sock_read=SILENCE_LIMIT_S
            ),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections to schedulers, within the block."""
        assert self._session is not None, "schedulers are called outside of their block"
        return self._session

    def leader_url(self) -> str:
        """Return where the leader is; Unavailable when nobody knows."""
        return self._usable(self._leader())

    def _usable(self, url: str) -> str:
        if not url:
            raise Unavailable("no scheduler is known: Consul's key `leader` names none yet")
        where = urlsplit(url)
        if where.scheme == "https" or self._insecure or is_loopback(where.hostname or ""):
            return url.rstrip("/")
        raise Refused(
            f"{url} is not https, and the agents' token goes nowhere without TLS "
            "unless insecure = true",
            "insecure",
        )

    async def get(self, digest: str) -> AsyncIterator[bytes]:
        """Yield a blob from any scheduler that has it; errors as those of `cache.fetch.Fetch`."""
        urls = dict.fromkeys([self._leader(), *self._others])
        problem: SeraiError = Unavailable("no scheduler is known that could have the bundle")
        for url in filter(None, urls):
            begun = False
            try:
                async for chunk in self._get(f"{self._usable(url)}/v1/blobs/{digest}"):
                    begun = True
                    yield chunk
                return
            except (Unavailable, Refused) as error:
                if begun:
                    raise
                problem = error
        raise problem

    async def _get(self, url: str) -> AsyncIterator[bytes]:
        async with self._asked("GET", url) as response:
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                yield chunk

    async def wake(self, api: str) -> None:
        """Have the leader wake an API; errors as those of `edge.wake_door.Waker`."""
        async with self._asked("POST", self._wake_url(api)) as response:
            await read_start(response, MAX_ANSWER_BYTES)

    async def looks(self, api: str) -> AsyncGenerator[WakeProgress, None]:
        """Yield how far the leader says that an API is, as `edge.wake_door.Waker` has it."""
        async with self._asked("GET", self._wake_url(api)) as response:
            try:
                async for line in response.content:
                    yield wire.decode_answer(line, WakeProgress)
            except (ConfigError, ValueError) as error:
                raise Unavailable(f"the leader sent a line that cannot be read: {error}") from error

    def _wake_url(self, api: str) -> str:
        return f"{self.leader_url()}/v1/apis/{quote(api, safe='')}/wake"

    @asynccontextmanager
    async def _asked(self, method: str, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield an answer of success; another one is raised as the error that it stands for."""
        async with (
            translated(f"the scheduler at {urlsplit(url).netloc}", TLS_KEYS),
            self.session.request(
                method, url, headers=self._headers, allow_redirects=False
            ) as response,
        ):
            if response.status != HTTPStatus.OK:
                raw = await read_start(response, MAX_ANSWER_BYTES)
                raise error_of(response.status, response.content_type, raw)
            yield response
