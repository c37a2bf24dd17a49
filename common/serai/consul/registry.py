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
NAMED = 3


class ConsulRegistry:
    """Follows the services of all APIs; keep `run` going.

    There is one blocking query for the names and one for each API: as many connections as APIs,
    which both `ConsulSettings.connections` and Consul's own limit have to allow. An API whose query
    fails keeps what was heard of it last, and touches no other one.
    """

    def __init__(self, client: ConsulClient, clock: Clock, wait_s: float = WAIT_S) -> None:
        self._client = client
        self._clock = clock
        self._wait_s = wait_s
        self._found: dict[str, Listed] = {}
        self._servers: tuple[Server, ...] = ()
        self._unheard: dict[str, str] = {}
        self._changes = Changes()
        self._following: dict[str, asyncio.Task[None]] = {}
        self._heard: set[str] = set()
        self._failing: dict[str, tuple[float, str]] = {}
        """By API since when its query has failed, and why it does."""
        self._awaited: set[str] | None = None
        """The APIs that were named first and of which there is neither an answer nor a failure yet:
        until there is of all, the list is none."""

    async def watch(self, after: int, wait_s: float) -> Listing:
        """As the port says; revisions count from this process's start."""
        await self._changes.beyond(after, wait_s)
        return Listing(
            revision=self._changes.revision, servers=self._servers, unheard=self._unheard
        )

    def problems(self) -> tuple[str, ...]:
        """Return in words which APIs' servers are as they were heard last, and for how long."""
        if not self._failing:
            return ()
        since_s, why = min(self._failing.values())
        names = sorted(self._failing)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        age_s = self._clock.now() - since_s
        return (f"servers of {', '.join(names[:NAMED])}{more}: not heard for {age_s:.0f} s: {why}",)

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
                for api in {*self._following, *self._heard, *self._failing} - apis:
                    if api in self._following:
                        self._following.pop(api).cancel()
                    self._forget(api)
                self._awaited = apis if self._awaited is None else self._awaited & apis
                self._publish()

    async def _follow(self, api: str) -> None:
        path = f"/v1/health/service/{service_name(api)}"
        query = Query(
            *(self._client, self._clock, path, self._wait_s, list),
            params={"passing": "1"},
            on_failure=lambda why: self._miss(api, why),
        )
        while True:
            instances: Sequence[Mapping[str, Any]] = await query.next()
            self._note(api, listed(api, instances))

    def _note(self, api: str, found: Listed) -> None:
        before = self._found.get(api)
        known = api in self._heard
        self._heard.add(api)
        self._failing.pop(api, None)
        self._told(api)
        if found == before and known:
            return
        for fault in found.faults if before is None or before.faults != found.faults else ():
            log.warning("instance takes no traffic", extra={"api": api, "why": fault})
        if found.servers or found.faults:
            self._found[api] = found
        else:
            self._found.pop(api, None)
        self._publish()

    def _miss(self, api: str, why: str) -> None:
        since_s, _ = self._failing.get(api, (self._clock.now(), ""))
        self._failing[api] = since_s, why
        self._told(api)
        self._publish()

    def _told(self, api: str) -> None:
        if self._awaited is not None:
            self._awaited.discard(api)

    def _forget(self, api: str) -> None:
        self._heard.discard(api)
        self._failing.pop(api, None)
        self._found.pop(api, None)

    def _publish(self) -> None:
        if self._awaited is None or self._awaited:
            return
        servers = [server for one in self._found.values() for server in one.servers]
        ordered = tuple(sorted(servers, key=lambda server: server.id))
        failing = self._failing.items()
        unheard = {api: why for api, (_, why) in failing if api not in self._heard}
        if (ordered, unheard) != (self._servers, self._unheard) or self._changes.revision == 0:
            self._servers, self._unheard = ordered, unheard
            self._changes.raise_to(self._changes.revision + 1)
