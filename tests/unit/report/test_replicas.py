"""Which processes are a replica's, by environment and kin."""

import pytest

from serai_agent.local.usage import members
from serai_agent.report.replicas import replica_in


def test_a_process_belongs_to_the_nearest_marked_one_above_it() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20, 30: 11, 31: 30}
    found = members({10: "a", 20: "b", 30: "c", 99: "gone"}, parents)
    assert {name: sorted(pids) for name, pids in found.items()} == {
        "a": [10, 11, 12],
        "b": [20, 21],
        "c": [30, 31],
        "gone": [99],
    }


def test_processes_that_seem_to_be_each_others_parents_are_nobodys() -> None:
    assert members({}, {1: 2, 2: 1, 3: 3}) == {}


@pytest.mark.parametrize(
    ("environment", "replica"),
    [
        (b"A=1\0NOMAD_ALLOC_ID=x\0SERAI_REPLICA=iris.v1-a.1\0", "iris.v1-a.1"),
        (b"SERAI_REPLICA=iris.v1-a.1\0", ""),
        (b"NOMAD_ALLOC_ID=x\0MY_SERAI_REPLICA=b\0", ""),
        (b"", ""),
    ],
)
def test_only_tasks_of_nomad_name_their_replica(environment: bytes, replica: str) -> None:
    assert replica_in(environment) == replica
