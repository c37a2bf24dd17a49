"""One tick's view of everything, frozen: what the plan is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from msgspec import Meta

from serai.model import Replica, Value
from serai_scheduler.record import StoredApi

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SomeSeconds = Annotated[float, Meta(ge=0, le=3_600)]


class UpdateLimits(Value):
    """How long a new version may take, in seconds, before it is given up.

    `ready_s` is for all of its replicas to become ready; `stuck_s` for a place where one needs
    another spec or other nodes. Nomad needs up to half a minute to see that a node has found its
    dockerd or Consul again. `steady_s` is for how long all of them have to stay ready before they
    take over from a version that serves: one that gets ready and ends a moment later is none.
    """

    ready_s: Seconds = 1800.0
    stuck_s: Seconds = 60.0
    steady_s: SomeSeconds = 5.0


DEFAULT_LIMITS = UpdateLimits()


@dataclass(frozen=True)
class GatewayView:
    """What the gateways carried out and what is in flight, from reports that are fresh.

    `revisions` gives per API the lowest route revision that every gateway has carried out; an API
    that some gateway says nothing of is absent. `in_flight` sums per replica over all gateways;
    a replica that no gateway has is absent. `queued` sums per (API, version). `routed` names the
    APIs that any gateway still has a route for. `known` is False while any gateway is silent:
    unknown is not zero.
    """

    known: bool = False
    revisions: dict[str, int] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    queued: dict[tuple[str, str], int] = field(default_factory=dict)
    routed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Leaving:
    """The nodes that are to be empty: all of them, and those that have waited long enough."""

    nodes: frozenset[str] = frozenset()
    overdue: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ApiWorld:
    """One API as seen at `now_s` (wall clock): its record, its replicas, the gateways.

    `began_s` is when the leader began to lead, by the same clock, which no step reaches.
    `calendar_s` is the machine's wall clock, which may be set meanwhile: for schedules alone.

    `refusals` holds what the engine answered when it was last asked to start a version. Replicas
    on the nodes of `leaving` are to be replaced elsewhere, then to go; overdue ones go at once.
    `blind` is why the engine shows nothing at this moment, "" while it does.
    `granted` says by version how long its answers may take, as the engine was last told. `asked`
    is the count that the autoscaler asks for, None while it asks for none. `failed_at_s` says by
    replica when it failed, by the leader's clock. `start_up_s` is how long a replica takes to be
    ready, None while that is not known.
    """

    now_s: float
    calendar_s: float
    stored: StoredApi
    replicas: tuple[Replica, ...]
    gateways: GatewayView
    refusals: dict[str, str] = field(default_factory=dict)
    leaving: Leaving = Leaving()
    limits: UpdateLimits = DEFAULT_LIMITS
    blind: str = ""
    granted: Mapping[str, float] = field(default_factory=dict)
    began_s: float = 0.0
    asked: int | None = None
    failed_at_s: Mapping[str, float] = field(default_factory=dict)
    start_up_s: float | None = None

    def age_s(self, since_s: float) -> float:
        """Return for how long something has been so, as far as this leader knows.

        What another leader has stamped counts from the beginning of this one: their clocks may
        differ by any amount, and whatever has a limit has rather more time than none.
        """
        return age_s(self.now_s, since_s, self.began_s)

    # What several steps of a plan look up is put together once, by the first that asks for it.

    @cached_property
    def by_id(self) -> Mapping[str, Replica]:
        return {replica.id: replica for replica in self.replicas}

    @cached_property
    def by_version(self) -> Mapping[str, Sequence[Replica]]:
        """Return the replicas of each version that has any, in their order."""
        found: dict[str, list[Replica]] = {}
        for replica in self.replicas:
            found.setdefault(replica.version, []).append(replica)
        return found

    def of(self, version: str) -> Sequence[Replica]:
        """Return the replicas of a version; "" is none, and has none."""
        return self.by_version.get(version, ()) if version else ()


def age_s(now_s: float, since_s: float, began_s: float) -> float:
    """Return how long ago a stamp was, one of other clocks counting from `began_s`."""
    return now_s - (since_s if began_s <= since_s <= now_s else min(began_s, now_s))
