"""The only module that imports py-consul: calls with deadlines, and its errors as ours."""

import asyncio
import json
import warnings
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import aiohttp
from consul import aio, base, exceptions

from serai.certificates import NO_KEYS, PLAIN_TO_TLS, TlsKeys, hint_if_cut_off, why_no_tls
from serai.errors import Refused, Unavailable
from serai.http import check_token
from serai.model import Value
from serai.trust import client_tls

T = TypeVar("T")

CALL_LIMIT_S = 10.0
LONGEST_WAIT_S = 120.0
CONNECTIONS = 600
"""One for each API that is followed, and some. Consul's own limit for a client's address has to be
above it: limits.http_max_conns_per_client, 200 unless set."""

KEYS = TlsKeys(ca="consul.ca", address="consul.host", certificate="consul.certificate")
DENIED = "Permission denied"
"""How Consul words, in a transaction's errors, that a token does not suffice."""


class ConsulSettings(Value):
    """Where Consul is. `ca` is a file of certificates to trust, "" for the system's.

    `certificate` and `key` are shown where Consul asks for them (`verify_incoming`), "" for none.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    token: str = ""
    connections: int = CONNECTIONS


class Answer(Value):
    """What Consul answered. `index` is that of a read, 0 where there is none."""

    status: int
    body: str
    index: int = 0

    def decoded(self, kind: type[T]) -> T:
        """Return the JSON of the body; Unavailable for what Consul would not say."""
        try:
            found = json.loads(self.body)
        except ValueError as error:
            raise Unavailable(f"not the answer of a Consul: {self.body[:100]!r}") from error
        if not isinstance(found, kind):
            raise Unavailable(f"not the answer of a Consul: {self.body[:100]!r}")
        return found


class ConsulClient:
    """Calls to one Consul agent, for an `async with` block; or make it in a loop and `close` it."""

    def __init__(self, settings: ConsulSettings) -> None:
        check_token(settings.token, "Consul")
        if settings.tls:  # py-consul's own words for a file that is none name no setting
            client_tls("consul", settings.ca, settings.certificate, settings.key)
        self._keys = KEYS if settings.tls else NO_KEYS
        scheme = "https" if settings.tls else "http"
        self.address = f"{scheme}://{settings.host}:{settings.port}"
        self._consul = _consul(settings, scheme)
        # Writes have connections of their own: aiohttp sends a PUT a second time when a connection
        # ends before its answer came, and there is no public way to forbid it.
        self._writing = _consul(settings, scheme)
        self._writing.http._session._retry_connection = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; nothing may be called afterwards."""
        await self._consul.close()
        await self._writing.close()

    async def get(
        self, path: str, params: Mapping[str, str | int] | None = None, *, wait_s: float = 0.0
    ) -> Answer:
        """Read; 404 is an answer. `wait_s` is how long a blocking query may take.

        Raises Unavailable when Consul does not answer or has no leader, Refused with code
        `consul_forbidden` when the token does not suffice.
        """
        asked = list((params or {}).items())
        # A blocking query takes up to a sixteenth longer than it was told to.
        limit_s = CALL_LIMIT_S + wait_s * 17 / 16
        headers = self._consul.prepare_headers(None)
        http = self._consul.http
        return await self._told(
            http.get(_answer, path, asked, headers, connections_timeout=limit_s), limit_s
        )

    async def put(
        self, path: str, body: object, params: Mapping[str, str | int] | None = None
    ) -> Answer:
        """Write JSON; 404 and 409 are answers. Never repeated: an answer may be lost.

        Raises as `get` does, and Refused with code `too_large`.
        """
        asked = list((params or {}).items())
        # A kept connection may have ended meanwhile, which a write would not survive.
        headers = {**self._writing.prepare_headers(None), "Connection": "close"}
        data = json.dumps(body)
        return await self._told(
            self._writing.http.put(_answer, path, asked, data, headers), CALL_LIMIT_S
        )

    async def entries(
        self, key: str, *, recurse: bool, index: int = 0, wait_s: float = 0.0
    ) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Return the index and the entries of a key, or of all below it; none is no error.

        With an `index` it returns once there is a later one, or after `wait_s`.
        """
        wait_s = min(wait_s, LONGEST_WAIT_S)
        limit_s = CALL_LIMIT_S + wait_s * 17 / 16
        asked = self._consul.kv.get(
            key,
            recurse=recurse,
            index=index or None,
            wait=f"{max(1, round(wait_s * 1000))}ms",
            connections_timeout=limit_s,
        )
        found, entries = await self._told(asked, limit_s)
        listed = entries if isinstance(entries, list) else [entries] if entries else []
        with self._translated():
            return int(found), listed

    async def _told(self, call: Awaitable[T], limit_s: float) -> T:
        with self._translated():
            async with asyncio.timeout(limit_s):
                return await call

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exceptions.ACLPermissionDenied as error:
            raise Refused(
                f"Consul at {self.address} refuses the token ({error}); "
                "see `consul.token_file` and what its policies allow",
                "consul_forbidden",
            ) from error
        except exceptions.ConsulException as error:
            if PLAIN_TO_TLS in str(error):
                raise Unavailable(
                    f"Consul at {self.address} speaks TLS: set `consul.tls = true`"
                ) from error
            raise Unavailable(f"Consul at {self.address} failed: {error}") from error
        except TimeoutError as error:
            raise Unavailable(f"Consul at {self.address} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            if why := why_no_tls(error, self._keys):
                raise Unavailable(f"no TLS with Consul at {self.address}: {why}") from error
            hint = hint_if_cut_off(error, self._keys)
            raise Unavailable(f"Consul at {self.address} does not answer: {error}{hint}") from error
        except (ValueError, LookupError) as error:
            raise Unavailable(f"what is at {self.address} is no Consul: {error}") from error


def _consul(settings: ConsulSettings, scheme: str) -> aio.Consul:
    shown = settings.tls and settings.certificate
    with warnings.catch_warnings():  # py-consul gives aiohttp arguments of old
        warnings.simplefilter("ignore", DeprecationWarning)
        made = aio.Consul(
            host=settings.host,
            port=settings.port,
            scheme=scheme,
            verify=(settings.ca or True) if settings.tls else False,
            cert=(settings.certificate, settings.key) if shown else None,
            connections_limit=settings.connections,
            connections_timeout=CALL_LIMIT_S,
        )
    made.token = settings.token or None  # as an argument a variable of the environment would win
    return made


def _answer(response: base.Response) -> Answer:
    """Return what py-consul got; its own callback would hide why a transaction was refused."""
    body = response.body.strip()
    if response.code == 403:
        raise exceptions.ACLPermissionDenied(body)
    if response.code == 409 and DENIED in body:  # a transaction that was not allowed
        raise exceptions.ACLPermissionDenied(body)
    if response.code == 413:
        raise Refused(f"Consul takes no more at once: {body}", "too_large")
    if response.code >= 400 and response.code not in (404, 409):
        raise exceptions.ConsulException(f"{response.code} {body}")
    index = int(response.headers.get("X-Consul-Index", 0))
    return Answer(status=response.code, body=body, index=index)
