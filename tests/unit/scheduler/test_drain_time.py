"""How long answers may take, told to the engine when replicas start and whenever it changes."""

import msgspec

from serai.model import ReplicaState
from serai.spec.types import ApiSpec, Timeouts
from serai.units import Duration
from serai_scheduler.actions import Grant, Start
from serai_scheduler.drain_time import drain_times, grants
from serai_scheduler.plan import plan
from serai_scheduler.world import ApiWorld, GatewayView
from tests.support.scheduling import NOW_S, deployed, replica, spec
from tests.unit.scheduler.test_plan import after, live, planned


def lasting(total_s: float, low: int = 2) -> ApiSpec:
    return msgspec.structs.replace(spec(low=low), timeouts=Timeouts(total=Duration(total_s)))


def test_replicas_start_with_the_time_of_their_spec() -> None:
    _, stored = deployed(None, lasting(1200))
    starts = [one for one in planned(stored).actions if isinstance(one, Start)]
    assert [one.drain_s for one in starts] == [1200, 1200]


def test_a_changed_time_is_told_once_of_what_runs() -> None:
    stored, version, ready = live()
    _, stored = deployed(stored, lasting(1200))
    world = ApiWorld(NOW_S, NOW_S, stored, tuple(ready), GatewayView(), granted={version: 600})
    (grant,) = (one for one in plan(world).actions if isinstance(one, Grant))
    assert (grant.version.name, grant.drain_s) == (version, 1200)
    told = ApiWorld(NOW_S, NOW_S, stored, tuple(ready), GatewayView(), granted={version: 1200})
    assert not grants(told, stored.record)
    ended = tuple(msgspec.structs.replace(one, state=ReplicaState.STOPPED) for one in ready)
    assert not grants(ApiWorld(NOW_S, NOW_S, stored, ended, GatewayView()), stored.record)


def test_a_candidate_has_the_time_of_its_own_spec_and_the_old_version_keeps_its() -> None:
    stored, old, ready = live()
    _, stored = deployed(stored, lasting(1200), bundle="b")
    candidate = stored.record.candidate
    assert candidate is not None
    assert drain_times(stored.record) == {old: 600, candidate.version: 1200}
    fresh = [replica(candidate.version, number) for number in (1, 2)]
    promoted = after(stored, planned(stored, *ready, *fresh))
    assert drain_times(promoted.record) == {candidate.version: 1200}
