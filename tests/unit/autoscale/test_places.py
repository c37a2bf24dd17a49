"""From nodes and what replicas need to places: what is counted, for whom, and what is not known."""

import pytest

from serai.engine import Capacity, EngineNode
from serai.spec.types import Compute, Nodes
from serai.units import Cpu, Size
from serai_scheduler.autoscale.places import Contender, shared
from serai_scheduler.autoscale.share import Claim, Grant

GIB = 2**30


def node(name: str, node_class: str = "", pool: str = "default", **has: int) -> EngineNode:
    return EngineNode(
        name=name, takes=True, pool=pool, node_class=node_class, capacity=Capacity(**has)
    )


def wants(
    name: str,
    wanted: int,
    on: dict[str, int] | None = None,
    *,
    gpu: int = 0,
    mem_gib: int = 0,
    cpu: int = 100,
    nodes: Nodes | None = None,
    least: int = 0,
    load: float = 8.0,
    release: str = "timer",
) -> Contender:
    claim = Claim(
        name=name,
        wanted=wanted,
        least=least,
        most=100,
        pools=(),
        late_per_s=1.0,
        load=load,
        release=release,  # type: ignore[arg-type]
        timer_ended=True,
    )
    mem = Size(mem_gib * GIB) if mem_gib else None
    return Contender(claim, Compute(cpu=Cpu(cpu), mem=mem, gpu=gpu), nodes, on or {})


def counts(grants: dict[str, Grant] | None) -> dict[str, int]:
    assert grants is not None
    return {name: grant.total for name, grant in grants.items()}


def test_all_get_what_they_want_where_it_fits() -> None:
    nodes = [node("a", gpus=4, memory_mib=8192, cpu_millicores=4000)]
    found = shared([wants("x", 3, gpu=1), wants("y", 5, mem_gib=1)], nodes, frozenset())
    assert counts(found) == {"x": 3, "y": 5}


def test_gpus_are_shared_among_those_that_need_them_alone() -> None:
    nodes = [node("a", gpus=2), node("b", gpus=2)]
    found = shared([wants("x", 9, gpu=1), wants("y", 50)], nodes, frozenset())
    assert counts(found) == {"x": 4, "y": 50}
    assert found is not None and "wanted 9, got 4" in found["x"].reason


def test_only_whole_replicas_count_on_each_node() -> None:
    nodes = [node(name, memory_mib=5 * 1024) for name in "abc"]
    found = shared([wants("x", 9, mem_gib=3)], nodes, frozenset())
    assert counts(found) == {"x": 3}, "three of 3 GiB, though 15 GiB would hold five"


def test_replicas_of_several_sizes_share_what_there_is() -> None:
    nodes = [node("a", gpus=8)]
    found = counts(
        shared([wants("large", 9, gpu=4, least=1), wants("small", 9, gpu=1)], nodes, frozenset())
    )
    assert 4 * found["large"] + found["small"] == 8 and found["large"] >= 1


def test_the_scarcest_of_memory_and_processor_decides() -> None:
    nodes = [node("a", memory_mib=100 * 1024, cpu_millicores=1000)]
    assert counts(shared([wants("x", 9, mem_gib=1, cpu=250)], nodes, frozenset())) == {"x": 4}
    nodes = [node("a", memory_mib=2 * 1024, cpu_millicores=100_000)]
    assert counts(shared([wants("x", 9, mem_gib=1, cpu=250)], nodes, frozenset())) == {"x": 2}


def test_only_nodes_of_the_class_and_pool_that_are_asked_for_count() -> None:
    nodes = [
        node("a", node_class="big", gpus=2),
        node("b", node_class="small", gpus=2),
        node("c", node_class="big", pool="own", gpus=2),
    ]
    big = Nodes(class_="big")
    found = shared([wants("x", 9, gpu=1, nodes=big), wants("y", 1, gpu=1)], nodes, frozenset())
    assert counts(found) == {"x": 2, "y": 1}, "whoever may go elsewhere does"
    everywhere = Nodes(class_="big", pool="all")
    assert counts(shared([wants("x", 9, gpu=1, nodes=everywhere)], nodes, frozenset())) == {"x": 4}


def test_nothing_is_shared_where_an_open_node_does_not_tell_what_it_has() -> None:
    silent = EngineNode(name="b", takes=True)
    assert shared([wants("x", 9, gpu=1)], [node("a", gpus=1), silent], frozenset()) is None


def test_who_fits_nowhere_or_asks_for_what_is_not_told_is_left_alone() -> None:
    nodes = [node("a", gpus=2, memory_mib=1024)]
    meta = Nodes(meta={"rack": "r1"})
    asked = [wants("huge", 1, gpu=4), wants("meta", 5, {"a": 1}, gpu=1, nodes=meta)]
    found = shared([*asked, wants("x", 9, gpu=1)], nodes, frozenset())
    assert counts(found) == {"x": 1}, "what the others have is not for it"


def test_what_runs_has_a_place_whatever_its_node_tells() -> None:
    found = shared([wants("x", 5, {"a": 3}, gpu=1)], [node("a", gpus=2)], frozenset())
    assert counts(found) == {"x": 3}


def test_replicas_on_a_closed_node_stay_those_on_one_to_be_emptied_do_not() -> None:
    closed = EngineNode(name="b", takes=False, closed=True, pool="default")
    nodes, x = [node("a", gpus=2), closed], wants("x", 9, {"a": 1, "b": 3}, gpu=1)
    assert counts(shared([x], nodes, frozenset())) == {"x": 5}
    assert counts(shared([x], nodes, frozenset({"b"}))) == {"x": 2}


@pytest.mark.parametrize(("wanted", "left"), [(1, 3), (3, 1)])
def test_idle_replicas_keep_what_nobody_else_wants(wanted: int, left: int) -> None:
    idle = wants("idle", 1, {"a": 4}, gpu=1, release="contention", load=1.0)
    found = shared([idle, wants("x", wanted, gpu=1)], [node("a", gpus=4)], frozenset())
    assert counts(found) == {"idle": left, "x": wanted}
    assert found is not None and found["idle"].count == 1


def test_one_machine_is_as_it_is_whatever_nodes_are_asked_for() -> None:
    here = EngineNode(name="here", takes=True, capacity=Capacity(memory_mib=4096))
    found = shared([wants("x", 9, mem_gib=1, nodes=Nodes(class_="big"))], [here], frozenset())
    assert counts(found) == {"x": 4}
    assert counts(shared([wants("y", 90, gpu=1, cpu=9000)], [here], frozenset())) == {"y": 90}
