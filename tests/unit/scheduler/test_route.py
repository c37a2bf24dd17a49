"""What the gateways are told of an API in each part of its life."""

import msgspec

from serai.routes import SHARE_WHOLE, VersionShare
from serai_scheduler.route import HOLD_LIMIT_S, route_of
from tests.support.scheduling import NOW_S, deployed, spec


def test_requests_wait_for_the_first_version() -> None:
    _, stored = deployed(None, spec())
    candidate = stored.record.candidate
    assert candidate is not None
    route = route_of(stored.record, 7)
    assert route is not None
    assert route.versions == (VersionShare(version=candidate.version, share=SHARE_WHOLE),)
    assert (route.hold_limit_s, route.epoch) == (HOLD_LIMIT_S, 7)


def test_once_the_first_version_has_failed_nothing_is_waited_for() -> None:
    _, stored = deployed(None, spec())
    failed = msgspec.structs.replace(stored.record, candidate=None, last_error="exit code 1")
    route = route_of(failed, 1)
    assert route is not None
    assert (route.versions, route.hold_limit_s) == ((), 0)


def test_an_api_that_is_deleted_has_no_route() -> None:
    _, stored = deployed(None, spec())
    assert route_of(msgspec.structs.replace(stored.record, deleting_since_s=NOW_S), 1) is None
