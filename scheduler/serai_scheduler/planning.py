"""All plans of a tick, from one frozen observation. Pure, so that a thread may make them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from serai.model import Replica
from serai.routes import Route
from serai_scheduler.actions import Stop
from serai_scheduler.batches import Order, orders_of
from serai_scheduler.plan import Outcome, check, plan
from serai_scheduler.record import StoredApi
from serai_scheduler.route import route_of
from serai_scheduler.traffic import Heard, gateway_view
from serai_scheduler.trial import judge
from serai_scheduler.world import DEFAULT_LIMITS, ApiWorld, GatewayView, Leaving, UpdateLimits


@dataclass(frozen=True)
class Observation:
    """What a tick has seen at `now_s` (wall clock); nothing in it is changed any more.

    `began_s` is when the leader began to lead, by the same clock, which no step reaches.
    `calendar_s` is the machine's wall clock, which may be set meanwhile.

    `routes` are those in the store, `known` the APIs that this process has ever found there,
    `refusals` by API what the engine answered when it was last asked to start a version, `granted`
    by API and version how long its answers may take, as the engine was last told. `blind` is why
    the engine shows nothing at this moment, "" while it does. `asked` holds by API the count that
    the autoscaler asks for, `failed_at_s` by replica when it failed, by the leader's clock.
    `start_up_s` says by API how long a replica takes to be ready, where that is known.
    """

    now_s: float
    calendar_s: float
    epoch: int
    apis: Mapping[str, StoredApi]
    routes: Mapping[str, Route]
    known: frozenset[str]
    replicas: Sequence[Replica]
    heard: Heard
    refusals: Mapping[str, dict[str, str]]
    leaving: Leaving
    limits: UpdateLimits = DEFAULT_LIMITS
    granted: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    blind: str = ""
    began_s: float = 0.0
    asked: Mapping[str, int] = field(default_factory=dict)
    failed_at_s: Mapping[str, float] = field(default_factory=dict)
    start_up_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """What to do about one API: first to store record and route where `changed`, then the orders.

    For an API that is gone for good (no record) it is the other way round.
    """

    stored: StoredApi
    outcome: Outcome
    route: Route | None
    changed: bool
    orders: tuple[Order, ...]


@dataclass(frozen=True)
class Plans:
    """A tick's plans of those APIs that need anything, and what was found on the way.

    `strays` are the orders that end replicas of versions that the store does not know, such as
    started by a lost order; `unknown` names APIs that have running replicas and nothing else.
    """

    by_api: dict[str, tuple[Replica, ...]]
    apis: tuple[Planned, ...]
    strays: dict[str, tuple[Order, ...]]
    unknown: tuple[str, ...]


def plan_all(seen: Observation) -> Plans:
    """Plan every API; a broken invariant of a plan is an AssertionError."""
    by_api = _by_api(seen.replicas)
    view = gateway_view(seen.heard)
    plans: list[Planned] = []
    for name, stored in seen.apis.items():
        mine = by_api.get(name, ())
        if why := next((one.unheard for one in mine if one.unheard), ""):
            plans += _judged(seen, stored, why)
            continue
        outcome = plan(world := _world(seen, stored, mine, view))
        check(world, outcome)
        one = _whole(world, outcome, seen.routes.get(name), seen.epoch)
        if one.changed or one.orders:
            plans.append(one)
    strays = {api: _strays(seen, api, mine) for api, mine in by_api.items() if api in seen.known}
    unknown = [
        api
        for api, mine in by_api.items()
        if api not in seen.known and any(one.alive for one in mine)
    ]
    return Plans(by_api, tuple(plans), {a: o for a, o in strays.items() if o}, tuple(unknown))


def judge_all(seen: Observation) -> tuple[Planned, ...]:
    """Plan where the engine shows nothing at all."""
    return tuple(one for stored in seen.apis.values() for one in _judged(seen, stored, seen.blind))


def _judged(seen: Observation, stored: StoredApi, why: str) -> Iterator[Planned]:
    """Plan an API of which too little is shown: a version that has had its time is given up.

    Whoever waits for it is to know. What of it may run is ended once the engine is seen again.
    """
    world = _world(seen, stored, (), GatewayView(), why)
    record, events = judge(world, stored.record)
    if stored.record.deleting_since_s is None and record is not stored.record:
        outcome = Outcome(record, events=events)
        yield _whole(world, outcome, seen.routes.get(stored.record.name), seen.epoch)


def _world(
    seen: Observation,
    stored: StoredApi,
    replicas: tuple[Replica, ...],
    view: GatewayView,
    blind: str = "",
) -> ApiWorld:
    name = stored.record.name
    return ApiWorld(
        now_s=seen.now_s,
        calendar_s=seen.calendar_s,
        stored=stored,
        replicas=replicas,
        gateways=view,
        refusals=seen.refusals.get(name, {}),
        leaving=seen.leaving,
        limits=seen.limits,
        granted=seen.granted.get(name, {}),
        blind=blind,
        began_s=seen.began_s,
        asked=seen.asked.get(name),
        failed_at_s=seen.failed_at_s,
        start_up_s=seen.start_up_s.get(name),
    )


def _by_api(replicas: Sequence[Replica]) -> dict[str, tuple[Replica, ...]]:
    grouped: defaultdict[str, list[Replica]] = defaultdict(list)
    for replica in replicas:
        grouped[replica.api].append(replica)
    return {api: tuple(mine) for api, mine in grouped.items()}


def _whole(world: ApiWorld, outcome: Outcome, route: Route | None, epoch: int) -> Planned:
    """Return an outcome with the route and the orders that follow from it."""
    record = outcome.record
    wanted = route_of(record, epoch) if record is not None else None
    changed = record != world.stored.record or wanted != route or bool(outcome.drop_versions)
    orders = orders_of(outcome.actions, _version_of(world.replicas)) if outcome.actions else ()
    return Planned(world.stored, outcome, wanted, changed, orders)


def _strays(seen: Observation, api: str, replicas: Sequence[Replica]) -> tuple[Order, ...]:
    """Return what ends the replicas of an API's unknown versions.

    An API that was never known to this process is left alone: the store may have lost it.
    """
    versions = seen.apis[api].versions if api in seen.apis else {}
    stops = [Stop(one.id, 0.0) for one in replicas if one.version not in versions and one.alive]
    return orders_of(stops, _version_of(replicas)) if stops else ()


def _version_of(replicas: Sequence[Replica]) -> dict[str, str]:
    return {one.id: one.version for one in replicas}
