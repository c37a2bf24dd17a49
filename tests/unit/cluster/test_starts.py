"""Starts that nobody asked for are told from those that somebody did."""

from tests.cluster.starts import superfluous
from tests.cluster.sweep import Allocation


def ran(*replicas: str) -> list[Allocation]:
    """Return the allocations of replicas such as `job/1`."""
    parted = [replica.split("/") for replica in replicas]
    return [Allocation(f"{n}", job, group, "node") for n, (job, group) in enumerate(parted)]


def test_what_was_asked_for_is_not_told() -> None:
    assert superfluous(ran("one/1", "two/1", "two/2"), {"0"}, {"two": 2}) == []


def test_a_replica_that_was_started_twice_is_told() -> None:
    assert superfluous(ran("one/1", "one/1"), (), {"one": 2}) == [
        "one: replica 1 was started 2 times"
    ]


def test_more_than_were_asked_for_are_told() -> None:
    told = superfluous(ran("one/1", "one/2", "two/1"), (), {"one": 1})
    assert told == [
        "one: 2 replicas were started, 1 were asked for",
        "two: 1 replicas were started, 0 were asked for",
    ]
