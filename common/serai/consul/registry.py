"""The registry of a cluster: what passes its checks in Consul, by blocking queries."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from serai.clock import Clock
from serai.consul.client import ConsulClient
from serai.consul.query import Query
from serai.consul.services import Listed, api_of, listed, service_name
from serai.memory import Changes
from serai.model import Server
from serai.registry import Listing

log = logging.getLogger(__name__)

WAIT_S = 60.0


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
        self._unheard: set[str] | None = None
        """The APIs that were named first and have not told their servers yet: until all have, the
        list is none."""

    async def watch(self, after: int, wait_s: float) -> Listing:
        """As the port says; revisions count from this process's start."""
        await self._changes.beyond(after, wait_s)
        return Listing(revision=self._changes.revision, servers=self._servers)

    async def run(self) -> None:
        """Follow Consul until cancelled; it may be run again after that, or after an error."""
        self._following.clear()  # they ended with the group that had them
        async with asyncio.TaskGroup() as group:
            path = "/v1/catalog/services"
            query = Query(self._client, self._clock, path, self._wait_s, dict)
            while True:
                names = await query.next()
                apis = {api for name in names if (api := api_of(name))}
                for api in apis - set(self._following):
                    self._following[api] = group.create_task(self._follow(api))
                for api in {*self._following, *self._found} - apis:
                    if api in self._following:
                        self._following.pop(api).cancel()
                    self._note(api, Listed(servers=()))
                self._unheard = apis if self._unheard is None else self._unheard & apis
                self._publish()

    async def _follow(self, api: str) -> None:
        path = f"/v1/health/service/{service_name(api)}"
        query = Query(self._client, self._clock, path, self._wait_s, list, {"passing": "1"})
        while True:
            instances: Sequence[Mapping[str, Any]] = await query.next()
            self._note(api, listed(api, instances))

    def _note(self, api: str, found: Listed) -> None:
        before = self._found.get(api)
        if self._unheard is not None:
            self._unheard.discard(api)
        if found == before:
            return
        for fault in found.faults if before is None or before.faults != found.faults else ():
            log.warning("instance takes no traffic", extra={"api": api, "why": fault})
        if found.servers or found.faults:
            self._found[api] = found
        else:
            self._found.pop(api, None)
        self._publish()

    def _publish(self) -> None:
        if self._unheard is None or self._unheard:
            return
        servers = [server for one in self._found.values() for server in one.servers]
        ordered = tuple(sorted(servers, key=lambda server: server.id))
        if ordered != self._servers or self._changes.revision == 0:
            self._servers = ordered
            self._changes.raise_to(self._changes.revision + 1)
