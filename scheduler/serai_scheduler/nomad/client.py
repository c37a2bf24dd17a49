"""The only module that imports python-nomad: calls with deadlines, and its errors as ours."""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import nomad
import requests
from nomad.api import exceptions
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from serai.errors import ConfigError, Refused, Unavailable
from serai.model import Value

T = TypeVar("T")

CONNECT_LIMIT_S = 5.0
CALL_LIMIT_S = 15.0
LONGEST_WAIT_S = 60.0
THREADS = 8
WAITING_THREADS = 8
"""For blocking queries, which hold one while they wait, even when nobody waits for them any more.
There are a few lists, not one for each job; a short call never stands behind them."""
STALE = "Enforcing job modify index"
"""How Nomad words a refused index, with status 500; the words are all there is to tell it by."""
INVALID = re.compile(r"\d+ errors? occurred:")
"""How it words a job that breaks a rule, with status 500, too."""


class NomadSettings(Value):
    """Where Nomad is. `ca` is a file of certificates to trust, "" for the system's."""

    host: str = "127.0.0.1"
    port: int = 4646
    tls: bool = False
    ca: str = ""
    token: str = ""
    namespace: str = "default"
    region: str = ""


class Listed(Value):
    """A list as Nomad gave it, and the index from which to wait for the next."""

    index: int
    items: tuple[Mapping[str, Any], ...]


class NomadClient:
    """Calls to one Nomad agent, each on a thread of a bounded pool.

    Every method raises Unavailable when Nomad does not answer in time or has no leader, and
    Refused with code `nomad_forbidden` when the token does not suffice.
    """

    def __init__(self, settings: NomadSettings) -> None:
        _check(settings)
        scheme = "https" if settings.tls else "http"
        self.address = f"{scheme}://{settings.host}:{settings.port}"
        self._session = requests.Session()
        # Reads only: a write whose answer was lost is read again and decided anew.
        # An answer that is late is not asked for again: it would be late thrice.
        again = Retry(
            total=2, read=0, backoff_factor=0.2, allowed_methods=("GET",), status_forcelist=()
        )
        connections = THREADS + WAITING_THREADS
        adapter = HTTPAdapter(max_retries=again, pool_maxsize=connections)
        self._session.mount(f"{scheme}://", adapter)
        self._session.trust_env = False  # a proxy's variables are not meant for the own cluster
        self._nomad = nomad.Nomad(
            address=self.address,
            timeout=(CONNECT_LIMIT_S, CALL_LIMIT_S),
            # python-nomad trusts anybody unless told otherwise.
            verify=(settings.ca or True) if settings.tls else False,
            namespace=settings.namespace,
            region=settings.region or None,
            session=self._session,
        )
        client = self._nomad
        for endpoint in (client.jobs, client.job, client.allocations, client.nodes):
            # Else variables of the environment count.
            endpoint.token = settings.token or None
            endpoint.region = settings.region or None
            endpoint.cert = ()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="nomad")
        self._waiting = ThreadPoolExecutor(WAITING_THREADS, thread_name_prefix="nomad-waits")

    async def close(self) -> None:
        """Let go of everything; what still waits for Nomad ends by its deadline."""
        self._session.close()
        for pool in (self._pool, self._waiting):
            pool.shutdown(wait=False, cancel_futures=True)

    # Jobs ----------------------------------------------------------------------------------------

    async def register(self, job: Mapping[str, Any], index: int) -> int:
        """Register a job as it is to be; return its new index.

        `index` is the job's JobModifyIndex as it was read, 0 for one that must not exist. Raises
        Refused with code `conflict` when it is another by now, `nomad_refused` with Nomad's words
        when the job is not valid.
        """
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": index}
        answer = await self._run(lambda: self._nomad.jobs.request(json=body, method="post"))
        return int(self._decoded(answer, dict).get("JobModifyIndex", 0))

    async def job(self, job: str) -> Mapping[str, Any] | None:
        """Return a job as Nomad has it, None when it has none of this id."""
        try:
            answer = await self._run(lambda: self._nomad.job.request(job, method="get"))
        except Refused as error:
            if error.code == "not_found":
                return None
            raise
        return self._decoded(answer, dict)

    async def stop(self, job: str, *, purge: bool) -> None:
        """Stop a job and all it runs; with `purge` Nomad forgets it at once. None is no error."""
        params = {"purge": "true" if purge else "false"}
        try:
            await self._run(lambda: self._nomad.job.request(job, params=params, method="delete"))
        except Refused as error:
            if error.code != "not_found":
                raise

    # Lists ---------------------------------------------------------------------------------------

    async def jobs(self, prefix: str, after: int = 0, wait_s: float = 0.0) -> Listed:
        """Return the jobs whose ids begin so; with `after` once the list may have changed."""
        return await self._list(self._nomad.jobs.request, {"prefix": prefix}, after, wait_s)

    async def allocations(self, prefix: str, after: int = 0, wait_s: float = 0.0) -> Listed:
        """Return the allocations of jobs whose ids begin so; Nomad wakes for those of others too.

        `prefix` is of lower-case letters, digits and `-`.
        """
        params = {"filter": f'JobID matches "^{prefix}"', "resources": "true"}
        return await self._list(self._nomad.allocations.request, params, after, wait_s)

    async def nodes(self, after: int = 0, wait_s: float = 0.0) -> Listed:
        """Return the nodes of the cluster."""
        return await self._list(self._nomad.nodes.request, {"resources": "true"}, after, wait_s)

    async def evaluations(self, job: str) -> Listed:
        """Return the evaluations of a job: why something could not be placed stands there."""
        try:
            answer = await self._run(
                lambda: self._nomad.job.request(job, "evaluations", method="get")
            )
        except Refused as error:
            if error.code == "not_found":
                return Listed(index=0, items=())
            raise
        return self._listed(answer)

    async def _list(
        self,
        request: Callable[..., requests.Response],
        params: Mapping[str, str],
        after: int,
        wait_s: float,
    ) -> Listed:
        wait_s = min(wait_s, LONGEST_WAIT_S) if after else 0.0
        asked: dict[str, str | int] = dict(params)
        if wait_s:
            asked |= {"index": after, "wait": f"{round(wait_s * 1000)}ms"}
        # Nomad takes up to a sixteenth longer than it was told to.
        limits = (CONNECT_LIMIT_S, CALL_LIMIT_S + wait_s * 17 / 16)
        return self._listed(
            await self._run(lambda: request(params=asked, method="get", timeout=limits), wait_s)
        )

    def _listed(self, answer: requests.Response) -> Listed:
        index = answer.headers.get("X-Nomad-Index", "0")
        items = tuple(self._decoded(answer, list))
        return Listed(index=int(index) if index.isdecimal() else 0, items=items)

    def _decoded(self, answer: requests.Response, kind: type[T]) -> T:
        """Return the JSON of an answer; Unavailable for what Nomad would not say."""
        try:
            found = answer.json()
        except requests.JSONDecodeError:
            found = None
        if not isinstance(found, kind):
            raise Unavailable(
                f"what is at {self.address} is no Nomad: {answer.status_code} {answer.text[:100]!r}"
            )
        return found

    # Calling -------------------------------------------------------------------------------------

    async def _run(self, call: Callable[[], requests.Response], wait_s: float = 0.0) -> Any:
        limit_s = 3 * (CONNECT_LIMIT_S + CALL_LIMIT_S) + wait_s * 17 / 16
        try:
            async with asyncio.timeout(limit_s):
                pool = self._waiting if wait_s else self._pool
                return await asyncio.get_running_loop().run_in_executor(pool, call)
        except TimeoutError as error:
            raise Unavailable(f"Nomad at {self.address} did not answer in time") from error
        except (exceptions.BaseNomadException, requests.RequestException) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Refused | Unavailable:
        """Return our error for one of python-nomad's: by Nomad's words where its status is 500."""
        response = getattr(error, "nomad_resp", None)
        if not isinstance(response, requests.Response):
            return Unavailable(f"Nomad at {self.address} does not answer: {_in_short(error)}")
        said = response.text.strip()
        if STALE in said:
            return Refused(f"the job was changed by somebody else meanwhile: {said}", "conflict")
        if response.status_code == 403:
            return Refused(f"Nomad at {self.address} refuses the token: {said}", "nomad_forbidden")
        if response.status_code == 404:
            return Refused(f"Nomad knows nothing of it: {said}", "not_found")
        if response.status_code == 400 or INVALID.match(said):
            return Refused(f"Nomad refuses it: {' '.join(said.split())}", "nomad_refused")
        return Unavailable(f"Nomad at {self.address} failed: {response.status_code} {said}")


def _in_short(error: object) -> str:
    """Return the last reason of a chain that urllib3 nests into one long text."""
    return str(error).rpartition("Caused by ")[2] or type(error).__name__


def _check(settings: NomadSettings) -> None:
    """Raise ConfigError for what no call could be made with."""
    if settings.token and not (settings.token.isascii() and settings.token.isprintable()):
        raise ConfigError("the token for Nomad holds a line end or another odd character")
    if settings.tls and settings.ca:
        try:
            ssl.create_default_context(cafile=settings.ca)
        except OSError as error:
            raise ConfigError(f"cannot use the certificates {settings.ca}: {error}") from error
