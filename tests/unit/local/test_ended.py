"""Small decisions of the engine: which records go, which processes belong to whom."""

from serai.ended import surplus
from serai.model import Replica, ReplicaState
from serai_agent.local.usage import trees


def ended(name: str, at_s: float | None) -> Replica:
    return Replica(
        id=name,
        api="a",
        version="v1-aaaaaaaa",
        node="n",
        state=ReplicaState.STOPPED,
        ended_at_s=at_s,
    )


def test_the_oldest_records_go_first() -> None:
    records = [ended("c", 3.0), ended("a", 1.0), ended("d", None), ended("b", 2.0)]
    assert [replica.id for replica in surplus(records, 2)] == ["d", "a"]
    assert surplus(records, 4) == [] and surplus([], 0) == []


def test_processes_belong_to_the_keepers_above_them() -> None:
    parents = {10: 1, 11: 10, 12: 11, 13: 10, 20: 1, 21: 20, 30: 1, 31: 30}
    found = trees({"a": (10,), "b": (20, 30), "gone": (99,)}, parents)
    assert {name: sorted(below) for name, below in found.items()} == {
        "a": [11, 12, 13],
        "b": [21, 31],
        "gone": [],
    }
