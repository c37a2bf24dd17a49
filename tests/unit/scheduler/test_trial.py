"""When a version on its way comes to serve."""

import msgspec

from serai.model import ReplicaState
from serai_scheduler.world import DEFAULT_LIMITS
from tests.support.scheduling import NOW_S, deployed, replica, spec
from tests.unit.scheduler.test_plan import live, planned


def test_it_has_to_stay_ready_for_a_moment_where_another_one_serves() -> None:
    stored, _, ready = live(1)
    _, stored = deployed(stored, spec(low=1), bundle="b")
    candidate = stored.record.candidate
    assert candidate is not None
    new = msgspec.structs.replace(replica(candidate.version, 1), ready_at_s=NOW_S)
    steady_s = DEFAULT_LIMITS.steady_s
    for later_s, serves in ((steady_s - 0.1, ready[0].version), (steady_s, candidate.version)):
        record = planned(stored, *ready, new, now_s=NOW_S + later_s).record
        assert record is not None and record.stable == serves


def test_one_that_failed_is_judged_once_its_last_lines_are_there() -> None:
    stored, _, ready = live(1)
    _, stored = deployed(stored, spec(low=1), bundle="b")
    candidate = stored.record.candidate
    assert candidate is not None
    failed = replica(candidate.version, 1, ReplicaState.FAILED, reason="exit code 3")
    still = planned(stored, *ready, msgspec.structs.replace(failed, telling=True)).record
    assert still is None or still.candidate == candidate
    told = msgspec.structs.replace(
        failed, reason="exit code 3: no model here", log_tail=("no model here",)
    )
    record = planned(stored, *ready, told).record
    assert record is not None and record.candidate is None
    assert record.last_error == "exit code 3: no model here"
    assert record.failed_log == ("no model here",)
