"""The replicas of a job that is printed for a version that runs in no job yet."""

import msgspec

from serai.model import ReplicaState
from serai.units import Duration
from serai_scheduler.record import Candidate
from serai_scheduler.rendering import would_run
from tests.support.scheduling import deployed, replica, spec


def test_one_that_has_never_run_begins_at_one() -> None:
    _, stored = deployed(None, spec(low=3))
    (version,) = stored.versions
    record = msgspec.structs.replace(stored.record, replicas=3)
    assert would_run(record, version, ())[0] == (1, 2, 3)
    asleep = msgspec.structs.replace(record, replicas=0)
    assert would_run(asleep, version, ())[0] == (1,)


def test_numbers_that_were_there_do_not_come_again_and_what_lives_stays() -> None:
    _, stored = deployed(None, spec(low=3))
    (version,) = stored.versions
    record = msgspec.structs.replace(stored.record, replicas=3)
    known = [
        replica(version, 2),
        replica(version, 4, ReplicaState.FAILED),
        replica("v9-other", 7),
    ]
    assert would_run(record, version, known)[0] == (2, 5, 6)


def test_a_candidate_has_its_own_settings() -> None:
    _, stored = deployed(None, spec())
    timeouts = msgspec.structs.replace(spec().timeouts, total=Duration(33))
    coming = msgspec.structs.replace(spec(low=4), timeouts=timeouts)
    record = msgspec.structs.replace(
        stored.record,
        stable="v1-stable",
        candidate=Candidate(version="v2-next", spec=coming, since_s=0.0),
        replicas=1,
    )
    assert would_run(record, "v2-next", ()) == ((1, 2, 3, 4), 33.0)
    numbers, total_s = would_run(record, "v1-stable", ())
    assert numbers == (1,) and total_s == record.spec.timeouts.total.seconds
