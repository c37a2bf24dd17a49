"""All plans of a tick from one observation."""

from dataclasses import replace

import msgspec

from serai.model import Replica, ReplicaState
from serai_scheduler.batches import StartAll, StopAll
from serai_scheduler.plan import STOP_GRACE_S
from serai_scheduler.planning import Observation, plan_all
from serai_scheduler.record import StoredApi
from serai_scheduler.route import route_of
from serai_scheduler.traffic import Heard
from serai_scheduler.world import Leaving
from tests.support.scheduling import NOW_S, deployed, replica, spec

EPOCH = 3


def seen(
    *replicas: Replica, stored: StoredApi | None = None, known: frozenset[str] = frozenset()
) -> Observation:
    """Return an observation of one API at most, with the route that it should have."""
    apis = {stored.record.name: stored} if stored else {}
    routes = {name: route_of(one.record, EPOCH) for name, one in apis.items()}
    return Observation(
        now_s=NOW_S,
        calendar_s=NOW_S,
        epoch=EPOCH,
        apis=apis,
        routes={name: route for name, route in routes.items() if route is not None},
        known=known | apis.keys(),
        replicas=replicas,
        heard=Heard(),
        refusals={},
        leaving=Leaving(),
        granted={
            name: dict.fromkeys(one.versions, one.record.spec.timeouts.total.seconds)
            for name, one in apis.items()
        },
    )


def version_of(stored: StoredApi) -> str:
    (name,) = stored.versions
    return name


def untold(version: str) -> Replica:
    """Return a replica that runs and of which nobody knows whether it is ready."""
    loading = replica(version, state=ReplicaState.LOADING)
    return msgspec.structs.replace(loading, unheard="Consul does not answer")


def test_an_api_that_needs_nothing_has_no_plan() -> None:
    _, stored = deployed(None, spec())
    starting = replica(version_of(stored), state=ReplicaState.STARTING)
    plans = plan_all(seen(starting, stored=stored))
    assert plans.apis == () and plans.strays == {} and plans.unknown == ()
    assert plans.by_api == {"iris": (starting,)}


def test_an_api_that_lacks_a_replica_gets_the_order_and_nothing_is_stored() -> None:
    _, stored = deployed(None, spec())
    (one,) = plan_all(seen(stored=stored)).apis
    assert not one.changed and len(one.orders) == 1


def test_an_api_whose_servers_nobody_has_told_stays_as_it_is_and_no_other_one_does() -> None:
    """It was taken for not ready, or, with it, every other API."""
    _, stored = deployed(None, spec())
    _, other = deployed(None, spec(name="other"))
    unknown = untold(version_of(stored))
    looked = seen(unknown, stored=stored)
    both = replace(looked, apis={**looked.apis, "other": other})
    plans = plan_all(both)
    assert [one.stored.record.name for one in plans.apis] == ["other"]
    assert [type(order) for one in plans.apis for order in one.orders] == [StartAll]
    assert plans.by_api["iris"] == (unknown,)


def test_a_version_of_which_nobody_is_told_is_given_up_in_its_time_all_the_same() -> None:
    _, stored = deployed(None, spec())
    unknown = untold(version_of(stored))
    looked = seen(unknown, stored=stored)
    later = replace(looked, now_s=looked.now_s + looked.limits.ready_s + 1)
    (one,) = plan_all(later).apis
    assert one.orders == () and one.changed
    assert any("Consul does not answer" in str(event) for event in one.outcome.events)


def test_the_route_of_another_epoch_is_replaced() -> None:
    _, stored = deployed(None, spec())
    starting = replica(version_of(stored), state=ReplicaState.STARTING)
    (one,) = plan_all(
        Observation(**{**vars(seen(starting, stored=stored)), "epoch": EPOCH + 1})
    ).apis
    assert one.changed and one.route is not None and one.route.epoch == EPOCH + 1


def test_strays_of_a_known_api_are_ended_and_those_of_an_unknown_one_named() -> None:
    running, ended = replica("v9-x"), replica("v9-x", 2, ReplicaState.STOPPED)
    plans = plan_all(seen(running, ended, known=frozenset({"iris"})))
    assert plans.strays == {"iris": (StopAll((running.id,), 0.0),)} and plans.unknown == ()
    plans = plan_all(seen(running, ended))
    assert plans.strays == {} and plans.unknown == ("iris",)
    assert plan_all(seen(ended)).unknown == ()


def test_what_is_to_go_and_never_took_traffic_is_stopped() -> None:
    _, stored = deployed(None, spec())
    name = version_of(stored)
    two = [replica(name, number, ReplicaState.STARTING) for number in (1, 2)]
    (one,) = plan_all(seen(*two, stored=stored)).apis
    (order,) = one.orders
    assert isinstance(order, StopAll)
    assert order.grace_s == STOP_GRACE_S and len(order.replicas) == 1
