"""What the Nomad of this node says of itself, asked now and then; the report tells it.

Nomad's servers do not know how long a client lets a task end, so the client itself is asked.
"""

import ssl
from collections.abc import Mapping
from typing import Any, NoReturn

import aiohttp
import msgspec

from serai.certificates import NO_KEYS, PLAIN_TO_TLS, TlsKeys
from serai.clock import Clock
from serai.errors import Unavailable
from serai.http import read_start, translated
from serai.report import NomadReading
from serai.units import Duration

KEYS = TlsKeys(ca="nomad.ca", address="nomad.address", certificate="nomad.certificate")
SELF = "/v1/agent/self"
PERIOD_S = 60.0
AGAIN_S = 5.0
LIMIT_S = 5.0
MOST_ANSWER_BYTES = 2**20
MOST_VERSION_CHARACTERS = 100


class NomadProbe:
    """Asks the Nomad at `address` again and again; keep `run` going."""

    def __init__(
        self, clock: Clock, address: str, token: str, tls: ssl.SSLContext | bool = True
    ) -> None:
        self._clock = clock
        self._address = address.rstrip("/")
        self._headers = {"X-Nomad-Token": token} if token else {}
        self._tls = tls
        self._keys = KEYS if address.startswith("https:") else NO_KEYS
        self._reading = NomadReading(problem="its Nomad has not been asked yet")

    def current(self) -> NomadReading:
        """Return what it said last."""
        return self._reading

    async def run(self) -> NoReturn:
        """Ask until cancelled, sooner again where it did not answer."""
        async with aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(LIMIT_S)
        ) as session:
            while True:
                try:
                    self._reading = read(await self._ask(session))
                except Unavailable as error:
                    self._reading = NomadReading(problem=str(error)[:250])
                await self._clock.sleep(AGAIN_S if self._reading.problem else PERIOD_S)

    async def _ask(self, session: aiohttp.ClientSession) -> Mapping[str, Any]:
        what = f"Nomad at {self._address}"
        async with (
            translated(what, self._keys),
            session.get(self._address + SELF, ssl=self._tls, allow_redirects=False) as response,
        ):
            raw = await read_start(response, MOST_ANSWER_BYTES)
            if response.status in (401, 403):
                raise Unavailable(f"{what} refuses the token: it needs `agent:read`")
            if PLAIN_TO_TLS.encode() in raw:
                raise Unavailable(f"{what} speaks TLS: begin `nomad.address` with https://")
            if response.status != 200:
                raise Unavailable(f"{what} answers {response.status}")
        try:
            found = msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise Unavailable(f"what is at {self._address} is no Nomad") from error
        return found


def read(told: Mapping[str, Any]) -> NomadReading:
    """Return what matters of an agent's account of itself. Pure."""
    config = _table(told.get("config"))
    version = str(_table(config.get("Version")).get("Version", ""))[:MOST_VERSION_CHARACTERS]
    client = _table(config.get("Client"))
    if not client.get("Enabled"):
        return NomadReading(version=version, problem="the Nomad there is no client")
    try:
        limit_s = Duration.parse(client.get("MaxKillTimeout")).seconds
    except ValueError:
        problem = f"max_kill_timeout is {client.get('MaxKillTimeout')!r}, which cannot be read"
        return NomadReading(version=version, problem=problem[:250])
    return NomadReading(version=version, max_kill_timeout_s=limit_s)


def _table(value: object) -> Mapping[str, Any]:
    """Return what should be a table, an empty one for anything else: something answers there."""
    return value if isinstance(value, dict) else {}
