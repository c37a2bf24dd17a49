"""One tick's view of everything, frozen: what the plan is made from."""

from dataclasses import dataclass, field

from serai.model import Replica
from serai_scheduler.record import StoredApi


@dataclass(frozen=True)
class GatewayView:
    """What the gateways carried out and what is in flight, from reports that are fresh.

    `revisions` gives per API the lowest route revision that every gateway has carried out; an API
    that some gateway says nothing of is absent. `in_flight` sums per server id over all gateways;
    a server that no gateway has is absent. `queued` sums per (API, version). `routed` names the
    APIs that any gateway still has a route for. `known` is False while any gateway is silent:
    unknown is not zero.
    """

    known: bool = False
    revisions: dict[str, int] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    queued: dict[tuple[str, str], int] = field(default_factory=dict)
    routed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ApiWorld:
    """One API as seen at `now_s` (wall clock): its record, its replicas, the gateways.

    `refusals` holds what the engine answered when it was last asked to start a version.
    """

    now_s: float
    stored: StoredApi
    replicas: tuple[Replica, ...]
    gateways: GatewayView
    refusals: dict[str, str] = field(default_factory=dict)
