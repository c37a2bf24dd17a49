"""The registry of a cluster: what passes its checks in Consul, by blocking queries."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Generic, TypeVar

from serai.clock import Clock, backoff
from serai.consul.client import ConsulClient
from serai.consul.services import Listed, api_of, listed, service_name
from serai.errors import Refused, Unavailable
from serai.memory import Changes
from serai.model import Server
from serai.registry import Listing

log = logging.getLogger(__name__)

T = TypeVar("T")

WAIT_S = 60.0
LEAST_TURN_S = 0.05
"""Between two answers of one query: a service that flaps may not keep the gateway busy."""
LONGEST_PAUSE_S = 5.0


class ConsulRegistry:
    """Follows the services of all APIs; keep `run` going.

    There is one blocking query for the names and one for each API: as many connections as APIs,
    which both `ConsulSettings.connections` and Consul's own limit have to allow. While Consul is
    away the last list stays.
    """

    def __init__(self, client: ConsulClient, clock: Clock, wait_s: float = WAIT_S) -> None:
        self._client = client
        self._clock = clock
        self._wait_s = wait_s
        self._found: dict[str, Listed] = {}
        self._servers: tuple[Server, ...] = ()
        self._changes = Changes()
        self._following: dict[str, asyncio.Task[None]] = {}

    async def watch(self, after: int, wait_s: float) -> Listing:
        """As the port says; revisions count from this process's start."""
        await self._changes.beyond(after, wait_s)
        return Listing(revision=self._changes.revision, servers=self._servers)

    async def run(self) -> None:
        """Follow Consul until cancelled; it may be run again after that, or after an error."""
        self._following.clear()  # they ended with the group that had them
        async with asyncio.TaskGroup() as group:
            path = "/v1/catalog/services"
            query = _Query(self._client, self._clock, path, self._wait_s, dict)
            while True:
                names = await query.next()
                apis = {api for name in names if (api := api_of(name))}
                for api in apis - set(self._following):
                    self._following[api] = group.create_task(self._follow(api))
                for api in {*self._following, *self._found} - apis:
                    if api in self._following:
                        self._following.pop(api).cancel()
                    self._note(api, Listed(servers=()))

    async def _follow(self, api: str) -> None:
        path = f"/v1/health/service/{service_name(api)}"
        query = _Query(self._client, self._clock, path, self._wait_s, list, {"passing": "1"})
        while True:
            instances: Sequence[Mapping[str, Any]] = await query.next()
            self._note(api, listed(api, instances))

    def _note(self, api: str, found: Listed) -> None:
        before = self._found.get(api)
        if found == before:
            return
        for fault in found.faults if before is None or before.faults != found.faults else ():
            log.warning("instance takes no traffic", extra={"api": api, "why": fault})
        if found.servers:
            self._found[api] = found
        else:
            self._found.pop(api, None)
        servers = [server for one in self._found.values() for server in one.servers]
        ordered = tuple(sorted(servers, key=lambda server: server.id))
        if ordered != self._servers or self._changes.revision == 0:
            self._servers = ordered
            self._changes.raise_to(self._changes.revision + 1)


class _Query(Generic[T]):
    """One blocking query, asked again and again; failures are waited out."""

    def __init__(
        self,
        client: ConsulClient,
        clock: Clock,
        path: str,
        wait_s: float,
        kind: type[T],
        params: Mapping[str, str | int] | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._path = path
        self._wait_s = wait_s
        self._kind = kind
        self._params = params or {}
        self._index = 0
        self._answered_at_s = float("-inf")

    async def next(self) -> T:
        """Return the next answer, whether or not it differs from the last."""
        pauses = backoff(Random(self._path), first_s=0.2, cap_s=LONGEST_PAUSE_S)
        failed = ""
        while True:
            early_s = self._answered_at_s + LEAST_TURN_S - self._clock.now()
            if early_s > 0:
                await self._clock.sleep(early_s)
            try:
                found = await self._ask()
            except (Unavailable, Refused) as error:
                if str(error) != failed:
                    failed = str(error)
                    log.warning(
                        "consul is not followed", extra={"query": self._path, "why": failed}
                    )
                self._index = 0  # what comes back may have lost its data
                await self._clock.sleep(next(pauses))
                continue
            if failed:
                log.info("consul is followed again", extra={"query": self._path})
            self._answered_at_s = self._clock.now()
            return found

    async def _ask(self) -> T:
        wait_s = self._wait_s if self._index else 0.0
        params = dict(self._params)
        if wait_s:
            params |= {"index": self._index, "wait": f"{round(wait_s * 1000)}ms"}
        answer = await self._client.get(self._path, params, wait_s=wait_s)
        found = answer.decoded(self._kind)
        # An index that went backwards has to be asked for from the beginning.
        self._index = answer.index if answer.index >= self._index else 0
        return found
