"""The gateways in Consul: how one is registered, and who of them takes requests."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from serai.clock import Clock
from serai.consul.client import ConsulClient
from serai.consul.query import Query
from serai.gateways import Alive
from serai.memory import Changes
from serai.model import Value

GATEWAY_SERVICE = "serai-gateway"
"""Clients find the gateways by this name: `serai-gateway.service.consul`."""
GATEWAY_META = "gateway"
DEFINITION_META = "definition"
PASSING, PASSING_ONLY = f"/v1/health/service/{GATEWAY_SERVICE}", {"passing": "1"}
FORGOTTEN_AFTER = "72h"
"""How long Consul keeps a gateway whose check fails: one that comes back registers again."""
WAIT_S = 60.0
LEAST_TIMEOUT_S = 1.0


class GatewayService(Value):
    """A gateway as clients reach it.

    `address` is "" for the address of its Consul node. `check_url` is asked by the Consul agent of
    the same node, every `check_period_s` seconds.
    """

    name: str
    address: str
    port: int
    check_url: str
    check_period_s: float
    serai_version: str

    @property
    def id(self) -> str:
        """Return how its instance is called; several gateways may have one Consul agent."""
        return f"{GATEWAY_SERVICE}-{self.name}"


def definition_of(service: GatewayService) -> dict[str, Any]:
    """Return what Consul is told of a gateway. Pure."""
    period = f"{round(service.check_period_s * 1000)}ms"
    definition: dict[str, Any] = {
        "ID": service.id,
        "Name": GATEWAY_SERVICE,
        "Address": service.address,
        "Port": service.port,
        "Meta": {GATEWAY_META: service.name, "serai_version": service.serai_version},
        "Check": {
            "CheckID": f"{service.id}:ready",
            "Name": "HAProxy takes requests",
            "HTTP": service.check_url,
            "Interval": period,
            "Timeout": f"{round(max(service.check_period_s, LEAST_TIMEOUT_S) * 1000)}ms",
            "Status": "critical",
            "DeregisterCriticalServiceAfter": FORGOTTEN_AFTER,
        },
    }
    if service.check_url.startswith("https:"):
        # Asked on the node itself, by an address that the certificate need not name.
        definition["Check"]["TLSSkipVerify"] = True
    text = json.dumps(definition, sort_keys=True).encode()
    # Consul shows a service's checks elsewhere: with this a change of them is seen here, too.
    definition["Meta"][DEFINITION_META] = hashlib.sha256(text).hexdigest()[:16]
    return definition


def names_of(instances: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Read the answer of `/v1/health/service`: the gateways' names, sorted. Pure."""
    services = (one.get("Service") or {} for one in instances if isinstance(one, Mapping))
    found = ((service.get("Meta") or {}).get(GATEWAY_META) for service in services)
    return tuple(sorted({name for name in found if isinstance(name, str) and name}))


class GatewayRegistration:
    """Keeps one gateway registered with its node's Consul agent; call `ensure` again and again."""

    def __init__(self, client: ConsulClient, service: GatewayService) -> None:
        self._client = client
        self._id = service.id
        self._definition = definition_of(service)

    async def ensure(self) -> bool:
        """Register it unless it is as it should be; return whether that was needed.

        Raises Unavailable when Consul does not answer, Refused when its token does not suffice.
        """
        answer = await self._client.get(f"/v1/agent/service/{self._id}")
        if answer.status == 200:
            meta = answer.decoded(dict).get("Meta") or {}
            if meta.get(DEFINITION_META) == self._definition["Meta"][DEFINITION_META]:
                return False  # registering anew would set its check back to critical
        await self._client.put("/v1/agent/service/register", self._definition)
        return True

    async def withdraw(self) -> None:
        """Remove it from Consul; errors as above, and one that is not there is none."""
        await self._client.put(f"/v1/agent/service/deregister/{self._id}", None)


async def passing(client: ConsulClient) -> tuple[str, ...]:
    """Return the gateways whose checks pass now; raises as `ensure` does."""
    answer = await client.get(PASSING, PASSING_ONLY)
    return names_of(answer.decoded(list))


class ConsulGateways:
    """Follows the gateways whose checks pass; keep `run` going. The last list stays while away."""

    def __init__(self, client: ConsulClient, clock: Clock, wait_s: float = WAIT_S) -> None:
        self._client = client
        self._clock = clock
        self._wait_s = wait_s
        self._names: tuple[str, ...] = ()
        self._changes = Changes()

    async def watch(self, after: int, wait_s: float) -> Alive:
        """As the port says; revisions count from this process's start."""
        await self._changes.beyond(after, wait_s)
        return Alive(revision=self._changes.revision, names=self._names)

    async def run(self) -> None:
        """Follow Consul until cancelled; it may be run again after that, or after an error."""
        query = Query(self._client, self._clock, PASSING, self._wait_s, list, PASSING_ONLY)
        while True:
            names = names_of(await query.next())
            if names != self._names or self._changes.revision == 0:
                self._names = names
                self._changes.raise_to(self._changes.revision + 1)
