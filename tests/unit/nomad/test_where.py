"""Which nodes a version may run on: in its job, and in words where there is none."""

import msgspec
import pytest

from serai import wire
from serai.model import VersionContent
from serai.spec.types import Nodes, PreferredNodes
from serai_scheduler.nomad.job import job_of
from serai_scheduler.nomad.placement import why_not_placed
from serai_scheduler.nomad.rooms import Ask, Room
from serai_scheduler.nomad.settings import JobSettings
from serai_scheduler.nomad.where import ANYWHERE, Asked, asked_of, where
from tests.unit.nomad.values import placed, predictor

ASK = Ask(cpu_mhz=500, memory_mib=512)
WHAT_TO_DO = "change `nodes` in the spec, or a node's configuration"


def room(
    node: str, node_class: str = "", takes: bool = True, free_mib: int = 0, **meta: str
) -> Room:
    return Room(
        node=node,
        takes=takes,
        cpu_mhz=4000,
        memory_mib=8192,
        free_cpu_mhz=1500,
        free_memory_mib=free_mib,
        pool="models",
        node_class=node_class,
        meta=meta,
    )


def why(asked: Asked, *rooms: Room, **metric: int) -> tuple[bool, str]:
    found = why_not_placed(ASK, rooms, {"ConstraintFiltered": metric}, 1000, asked)
    return found.may_clear, found.reason


def test_what_a_job_asks_for_is_read_as_it_was_written() -> None:
    job = job_of(placed(), [1], JobSettings())
    asked = Asked(pool="all", node_class="gpu-large", meta={"rack": "r1", "disk.kind": "nvme"})
    assert asked_of(job) == asked
    operators = {"LTarget": "${attr.kernel.name}", "Operand": "=", "RTarget": "linux"}
    assert asked_of({**job, "Constraints": [*job["Constraints"], operators]}) == asked
    assert asked_of(job_of(predictor(), [1], JobSettings())) == Asked(pool="default")


def test_a_version_without_wishes_has_the_job_and_the_digest_that_it_had() -> None:
    assert where(None) == where(Nodes()) == {}
    content = predictor().content
    assert b"nodes" not in wire.encode(content)
    assert wire.decode(wire.encode(content), VersionContent) == content
    asking = msgspec.structs.replace(content, nodes=Nodes(class_="large"))
    assert wire.decode(wire.encode(asking), VersionContent) == asking
    assert wire.digest(asking) != wire.digest(content)


def test_what_is_preferred_keeps_no_node_out() -> None:
    made = where(Nodes(prefer=PreferredNodes(class_="new", meta={"rack": "r1"})))
    assert made.keys() == {"Affinities"} and len(made["Affinities"]) == 2
    assert asked_of(made) == Asked(pool="default")


def test_a_class_that_no_node_has_is_told_with_those_that_there_are() -> None:
    large = Asked(node_class="gpu-large")
    may_clear, reason = why(large, room("a", "small"), room("b", "small"), room("c"))
    assert not may_clear
    assert reason == (
        "no node has class gpu-large (3 nodes were looked at: 2 with class small, 1 with no "
        f"class): {WHAT_TO_DO}"
    )


def test_many_kinds_are_not_all_listed() -> None:
    rooms = [room(f"n{number}", f"kind-{number}") for number in range(8)]
    _, reason = why(Asked(node_class="large"), *rooms)
    assert "1 with class kind-4, 3 with others" in reason


def test_no_node_that_is_all_of_it_at_once_is_told_apart() -> None:
    both = Asked(node_class="large", meta={"rack": "r1"})
    may_clear, reason = why(both, room("a", "large"), room("b", rack="r1"), room("c", "large"))
    assert not may_clear
    assert reason == (
        "no node has class large and meta rack=r1 together (3 nodes were looked at: class large "
        f"on 2, meta rack=r1 on 1): {WHAT_TO_DO}"
    )


def test_such_nodes_that_are_closed_are_waited_for() -> None:
    may_clear, reason = why(Asked(node_class="large"), room("a", "large", takes=False), room("b"))
    assert may_clear
    assert reason == (
        "no node with class large takes replicas: 1 known, all of them down, cordoned or draining"
    )


def test_nobody_who_asks_for_nothing_hears_of_pools() -> None:
    closed = msgspec.structs.replace(room("a", takes=False), pool="default")
    _, reason = why(Asked(pool="default"), closed)
    assert reason == ("no node takes replicas: 1 known, all of them down, cordoned or draining")


@pytest.mark.parametrize("asked", [ANYWHERE, Asked(pool="models", meta={"rack": "r1"})])
def test_room_is_looked_for_on_such_nodes_alone(asked: Asked) -> None:
    rooms = [room("a", free_mib=100, rack="r1"), room("b", free_mib=8000)]
    metric = {"${meta.rack} = r1": 1} if asked.meta else {}
    may_clear, reason = why(asked, *rooms, **metric)
    assert may_clear and reason.startswith("waits for room")
    assert ("b 1.5 cores" in reason) is (asked == ANYWHERE)
    assert "meta" not in reason


def test_what_else_such_nodes_lack_is_told() -> None:
    metric = {"${node.class} = large": 1, "computed class ineligible": 3, "missing drivers": 1}
    may_clear, reason = why(Asked(node_class="large"), room("a", "large"), room("b"), **metric)
    assert not may_clear
    assert reason.startswith("no node can ever run it: 1 node without a driver")
    assert "like another" not in reason and "do not meet" not in reason
