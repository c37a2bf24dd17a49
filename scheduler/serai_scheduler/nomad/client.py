"""The only module that imports python-nomad: calls with deadlines, and its errors as ours."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import nomad
import requests
from nomad.api import exceptions
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from serai.certificates import NO_KEYS, PLAIN_TO_TLS, TlsKeys, hint_if_cut_off, why_no_tls
from serai.errors import Refused, Unavailable
from serai.http import check_token
from serai.model import Value
from serai.trust import client_tls

T = TypeVar("T")
Allowed = Callable[[], bool]
"""Says whether a write may still be sent; called in a thread."""

CONNECT_LIMIT_S = 5.0
CALL_LIMIT_S = 15.0
WRITE_CONNECT_LIMIT_S = 2.0
"""Less than the margin of a lease: who may write when it begins to connect may when it has."""
LONGEST_WAIT_S = 60.0
THREADS = 8
FILE_THREADS = 8
"""For reading files of replicas, from nodes that may be slow to answer."""
WAITING_THREADS = 16
"""For blocking queries, which hold one while they wait, even when nobody waits for them any more.
There are a few lists, not one for each job; a short call never stands behind them."""
KEYS = TlsKeys(ca="nomad.ca", address="nomad.host", certificate="nomad.certificate")
STALE = "Enforcing job modify index"
"""How Nomad words a refused index, with status 500; the words are all there is to tell it by."""
INVALID = re.compile(r"\d+ errors? occurred:")
"""How it words a job that breaks a rule, with status 500, too."""


class NomadSettings(Value):
    """Where Nomad is. `ca` is a file of certificates to trust, "" for the system's.

    `certificate` and `key` are shown where it asks for them (`verify_https_client`), "" for none.
    """

    host: str = "127.0.0.1"
    port: int = 4646
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
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
        check_token(settings.token, "Nomad")
        if settings.tls:  # what requests would say only when it calls
            client_tls("nomad", settings.ca, settings.certificate, settings.key)
        self.address = _address(settings)
        self._keys = KEYS if settings.tls else NO_KEYS
        # An answer that is late is not asked for again: it would be late thrice.
        again = Retry(
            total=2, read=0, backoff_factor=0.2, allowed_methods=("GET",), status_forcelist=()
        )
        self._nomad = _connected(settings, again, CONNECT_LIMIT_S)
        # A write whose answer was lost is read again and decided anew.
        self._writing = _connected(settings, Retry(total=0, read=False), WRITE_CONNECT_LIMIT_S)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="nomad")
        self._waiting = ThreadPoolExecutor(WAITING_THREADS, thread_name_prefix="nomad-waits")
        self._files = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="nomad-files")

    async def close(self) -> None:
        """Let go of everything; what still waits for Nomad ends by its deadline."""
        for one in (self._nomad, self._writing):
            one.session.close()
        for pool in (self._pool, self._waiting, self._files):
            pool.shutdown(wait=False, cancel_futures=True)

    async def answers(self, limit_s: float) -> None:
        """Return when Nomad has answered and has a leader; Unavailable after `limit_s`."""
        params = {"prefix": "no-such-job-", "per_page": "1"}
        request = partial(self._nomad.jobs.request, params=params, timeout=(limit_s, limit_s))
        await self._run(lambda: request(method="get"), limit_s=limit_s)

    async def servers(self) -> tuple[tuple[str, str], ...]:
        """Return the servers that are there, each with its version."""
        answer = await self._run(lambda: self._nomad.agent.request("members", method="get"))
        members = self._decoded(answer, dict).get("Members") or ()
        return tuple(
            (one["Name"], one["Tags"].get("build", ""))
            for one in members
            if one["Status"] == "alive"
        )

    # Jobs ----------------------------------------------------------------------------------------

    async def register(
        self, job: Mapping[str, Any], index: int, allowed: Allowed = lambda: True
    ) -> int:
        """Register a job as it is to be; return its new index.

        `index` is the job's JobModifyIndex as it was read, 0 for one that must not exist. Raises
        Refused with code `conflict` when it is another by now, `nomad_refused` with Nomad's words
        when the job is not valid, `fenced` when it is not `allowed` any more.
        """
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": index}
        answer = await self._write(
            lambda: self._writing.jobs.request(json=body, method="post"), allowed
        )
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

    async def stop(self, job: str, *, purge: bool, allowed: Allowed = lambda: True) -> int:
        """Stop a job and all it runs; with `purge` Nomad forgets it at once. None is no error.

        Returns the index of the change.

        Nomad knows no index for that: whoever shares the job registers it as a stopped one.
        """
        params = {"purge": "true" if purge else "false"}
        request = partial(self._writing.job.request, job, params=params, method="delete")
        try:
            answer = await self._write(request, allowed)
        except Refused as error:
            if error.code != "not_found":
                raise
            return 0
        return int(self._decoded(answer, dict).get("JobModifyIndex", 0))

    # Lists ---------------------------------------------------------------------------------------

    async def jobs(self, prefix: str, after: int = 0, wait_s: float = 0.0) -> Listed:
        """Return the jobs whose ids begin so; with `after` once the list may have changed."""
        return await self._list(self._nomad.jobs.request, {"prefix": prefix}, after, wait_s)

    async def allocations(self, prefix: str, after: int = 0, wait_s: float = 0.0) -> Listed:
        """Return the allocations of jobs whose ids begin so; Nomad wakes for those of others too.

        `prefix` is of lower-case letters, digits and `-`.
        """
        return await self._allocations(f'JobID matches "^{prefix}"', after, wait_s)

    async def allocations_of_others(self, prefix: str) -> Listed:
        """Return the allocations of jobs whose ids begin otherwise; `prefix` as above."""
        return await self._allocations(f'JobID not matches "^{prefix}"', 0, 0.0)

    async def _allocations(self, condition: str, after: int, wait_s: float) -> Listed:
        params = {"filter": condition, "resources": "true"}
        return await self._list(self._nomad.allocations.request, params, after, wait_s)

    async def nodes(self, after: int = 0, wait_s: float = 0.0) -> Listed:
        """Return the nodes of the cluster."""
        return await self._list(self._nomad.nodes.request, {"resources": "true"}, after, wait_s)

    async def nodes_with_meta(self, key: str, value: str) -> frozenset[str]:
        """Return the ids of the nodes whose meta has this entry; both as a spec may have them."""
        params = {"filter": f'Meta["{key}"] == "{value}"'}
        listed = await self._list(self._nomad.nodes.request, params, 0, 0.0)
        return frozenset(node["ID"] for node in listed.items)

    async def node(self, node: str) -> Mapping[str, Any]:
        """Return all that Nomad knows of a node (its id); Refused (`not_found`) without one."""
        found: Mapping[str, Any] = await self._run(
            lambda: self._nomad.node.request(node, method="get").json()
        )
        return found

    async def open_node(self, node: str, takes: bool, allowed: Allowed) -> None:
        """Let a node (its id) take new allocations, or none; those that it has go on.

        A node that is opened is no longer drained by Nomad either. Raises Refused with code
        `not_found` for a node that Nomad does not know.
        """
        closing = {"Eligibility": "ineligible"}
        opening = {"DrainSpec": None, "MarkEligible": True}
        what, change = ("drain", opening) if takes else ("eligibility", closing)
        body = {"NodeID": node, **change}
        request = partial(self._writing.node.request, node, what, json=body, method="post")
        await self._write(request, allowed)

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

    # Files of replicas ---------------------------------------------------------------------------

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run what calls the methods below, which block, in a thread of a bounded pool."""
        return await asyncio.get_running_loop().run_in_executor(self._files, work)

    def list_files(self, allocation: str, folder: str) -> Sequence[Mapping[str, Any]]:
        """Return the files in a folder of an allocation; blocks."""
        listing = self._nomad.client.ls
        answer = self._translating(
            lambda: listing.request(allocation, params={"path": folder}, method="get")
        )
        return self._decoded(answer, list) if answer.text.strip() != "null" else ()

    def read_file(self, allocation: str, path: str, offset: int, size: int) -> bytes:
        """Return a piece of a file of an allocation, b"" behind its end; blocks."""
        params = {"path": path, "offset": offset, "limit": size}
        reading = self._nomad.client.read_at
        answer = self._translating(lambda: reading.request(allocation, params=params, method="get"))
        found: bytes = answer.content
        return found

    def _translating(self, call: Callable[[], requests.Response]) -> requests.Response:
        try:
            return call()
        except (exceptions.BaseNomadException, requests.RequestException) as error:
            raise self._translated(error) from error

    # Calling -------------------------------------------------------------------------------------

    async def _write(self, call: Callable[[], requests.Response], allowed: Allowed) -> Any:
        """Call unless it is not allowed, which is asked in the thread, right before it is sent."""

        def guarded() -> requests.Response:
            if not allowed():
                raise Refused("not the leader any more: nothing was sent to Nomad", "fenced")
            return call()

        return await self._run(guarded)

    async def _run(
        self,
        call: Callable[[], requests.Response],
        wait_s: float = 0.0,
        limit_s: float = 3 * (CONNECT_LIMIT_S + CALL_LIMIT_S),
    ) -> Any:
        limit_s += wait_s * 17 / 16
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
            if why := why_no_tls(error, self._keys):
                return Unavailable(f"no TLS with Nomad at {self.address}: {why}")
            told = _in_short(error) + hint_if_cut_off(error, self._keys)
            return Unavailable(f"Nomad at {self.address} does not answer: {told}")
        said = response.text.strip()
        if STALE in said:
            return Refused(f"the job was changed by somebody else meanwhile: {said}", "conflict")
        if PLAIN_TO_TLS in said:
            return Unavailable(f"Nomad at {self.address} speaks TLS: set `nomad.tls = true`")
        if response.status_code == 403:
            return Refused(
                f"Nomad at {self.address} refuses the token ({said}); "
                "see `nomad.token_file` and what its policies allow",
                "nomad_forbidden",
            )
        if response.status_code == 404:
            return Refused(f"Nomad knows nothing of it: {said}", "not_found")
        if response.status_code == 400 or INVALID.match(said):
            return Refused(f"Nomad refuses it: {' '.join(said.split())}", "nomad_refused")
        return Unavailable(f"Nomad at {self.address} failed: {response.status_code} {said}")


def _address(settings: NomadSettings) -> str:
    return f"{'https' if settings.tls else 'http'}://{settings.host}:{settings.port}"


def _connected(settings: NomadSettings, again: Retry, connect_limit_s: float) -> nomad.Nomad:
    """Return python-nomad on a session of its own, with our deadlines and verification on."""
    session = requests.Session()
    adapter = HTTPAdapter(max_retries=again, pool_maxsize=THREADS + WAITING_THREADS + FILE_THREADS)
    session.mount(f"{_address(settings).partition(':')[0]}://", adapter)
    session.trust_env = False  # a proxy's variables are not meant for the own cluster
    client = nomad.Nomad(
        address=_address(settings),
        timeout=(connect_limit_s, CALL_LIMIT_S),
        # python-nomad trusts anybody unless told otherwise.
        verify=(settings.ca or True) if settings.tls else False,
        namespace=settings.namespace,
        region=settings.region or None,
        session=session,
    )
    shown = (settings.certificate, settings.key) if settings.tls and settings.certificate else ()
    files = (client.client.ls, client.client.read_at)
    for endpoint in (
        *(client.jobs, client.job, client.allocations, client.nodes, client.node, client.agent),
        *files,
    ):
        # Else variables of the environment count.
        endpoint.token = settings.token or None
        endpoint.region = settings.region or None
        endpoint.cert = shown
    return client


def _in_short(error: object) -> str:
    """Return the last reason of a chain that urllib3 nests into one long text."""
    return str(error).rpartition("Caused by ")[2] or type(error).__name__
