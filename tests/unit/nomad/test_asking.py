"""Which replicas are asked why they are not ready, and how the answer is told."""

from typing import Any

import msgspec

from serai.model import ReplicaState, Version
from serai_scheduler.nomad.asking import questions, told
from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.names import job_name, replica_id
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.snapshot import Seen, Snapshot, held
from tests.support.scheduling import replica
from tests.unit.nomad import values


def loading(version: Version) -> tuple[Snapshot, Seen]:
    """Return a snapshot with the version's job, and its replica that runs and is not ready."""
    body = {**job_of(version, [2], JobSettings()), "JobModifyIndex": 1, "CreateIndex": 1}
    name = job_name(version)
    port = {"Label": "http_0", "Value": 20_000, "HostIP": "10.0.0.3"}
    inside = body["TaskGroups"][0]["Networks"][0]["DynamicPorts"][0].get("To", 0)
    shared = {"Shared": {"Ports": [{**port, "To": inside}]}}
    allocation: dict[str, Any] = {"ID": "a1", "TaskGroup": "2", "AllocatedResources": shared}
    one = replica(version.name, 2, ReplicaState.LOADING, version.api, "its check does not pass yet")
    assert one.id == replica_id(name, 2)
    return Snapshot({body["ID"]: held(body, name)}), Seen(body["ID"], one, allocation)


def test_what_its_check_asks_is_asked() -> None:
    snapshot, seen = loading(values.program())
    (asked,) = questions(snapshot, [seen])
    assert (asked.allocation, asked.server.host, asked.server.port) == ("a1", "10.0.0.3", 20_000)
    assert (asked.path, asked.inside) == ("/", None)
    (asked,) = questions(*_alone(loading(values.containers())))
    assert (asked.path, asked.inside) == ("/readyz", 8000)


def _alone(found: tuple[Snapshot, Seen]) -> tuple[Snapshot, list[Seen]]:
    return found[0], [found[1]]


def test_nobody_else_is_asked() -> None:
    snapshot, seen = loading(values.program())
    for state in (ReplicaState.PENDING, ReplicaState.READY, ReplicaState.FAILED):
        other = Seen(seen.job, msgspec.structs.replace(seen.replica, state=state), seen.allocation)
        assert questions(snapshot, [other]) == ()
    assert questions(Snapshot(), [seen]) == ()


def test_an_answer_is_told_of_the_allocation_that_gave_it() -> None:
    _, seen = loading(values.program())
    reason = told(seen, {"a1": "GET / answers 503"}).replica.reason
    assert reason == "its check does not pass yet: GET / answers 503"
    for said in ({}, {"a1": ""}, {"a2": "GET / answers 503"}):
        assert told(seen, said) == seen
