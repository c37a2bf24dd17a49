"""Failed placements in words."""

from typing import Any

from serai_scheduler.nomad.placement import Ask, Room, ask_of, rooms_of, why_not_placed

CORE = 1000
SMALL = Ask(cpu_mhz=500, memory_mib=512)
FULL: dict[str, Any] = {"NodesExhausted": 2, "DimensionExhausted": {"memory": 2}}


def room(node: str, free_mib: int, takes: bool = True) -> Room:
    return Room(
        node=node,
        takes=takes,
        cpu_mhz=4000,
        memory_mib=8192,
        free_cpu_mhz=1500,
        free_memory_mib=free_mib,
    )


def test_a_full_cluster_is_waited_for_with_what_each_node_has() -> None:
    found = why_not_placed(SMALL, [room("a", 100), room("b", -5)], FULL, CORE)
    assert found.may_clear
    assert found.reason == (
        "waits for room: asks for 0.5 cores and 512Mi; "
        "free: a 1.5 cores and 100Mi, b 1.5 cores and 0Mi"
    )


def test_many_nodes_are_not_all_listed() -> None:
    rooms = [room(f"n{number}", number) for number in range(9)]
    assert why_not_placed(SMALL, rooms, FULL, CORE).reason.endswith("1.5 cores and 4Mi, 4 more")


def test_what_no_node_could_ever_hold_is_told_apart() -> None:
    huge = Ask(cpu_mhz=500, memory_mib=65_536)
    found = why_not_placed(huge, [room("a", 8000), room("b", 8000)], FULL, CORE)
    assert not found.may_clear
    assert "asks for 0.5 cores and 64.0Gi, more than any node has in all" in found.reason
    wide = Ask(cpu_mhz=3000, memory_mib=9000)
    assert not why_not_placed(wide, [room("a", 8000)], FULL, CORE).may_clear


def test_without_a_node_that_takes_replicas_nothing_else_matters() -> None:
    closed = why_not_placed(SMALL, [room("a", 8000, takes=False)], {}, CORE)
    assert closed.may_clear and "1 known, all of them down, cordoned or draining" in closed.reason
    assert "none is known" in why_not_placed(SMALL, [], {}, CORE).reason


def test_a_filter_never_clears_by_itself() -> None:
    metric = {"ConstraintFiltered": {"missing drivers": 1, "${attr.kernel.name} = linux": 2}}
    found = why_not_placed(SMALL, [room("a", 8000)], metric, CORE)
    assert not found.may_clear
    assert "2 nodes that do not meet ${attr.kernel.name} = linux" in found.reason
    assert "1 node without a driver that it needs" in found.reason


def test_some_filtered_and_some_full_is_waited_for() -> None:
    metric = {
        "ConstraintFiltered": {"missing devices": 1},
        "DimensionExhausted": {"devices: no devices match request": 1},
    }
    found = why_not_placed(SMALL, [room("a", 8000)], metric, CORE)
    assert found.may_clear
    assert "all GPUs are taken; 1 node without such a GPU" in found.reason


def test_a_disk_that_is_full_is_told_with_what_is_asked_for() -> None:
    metric = {"DimensionExhausted": {"disk": 1}}
    ask = Ask(cpu_mhz=500, memory_mib=512, disk_mib=300)
    found = why_not_placed(ask, [room("a", 8000)], metric, CORE)
    assert found.may_clear
    assert found.reason.endswith("; no more disk: its files and logs may take 300Mi")


def node(**changes: Any) -> dict[str, Any]:
    return {
        "ID": "id-a",
        "Name": "a",
        "Status": "ready",
        "SchedulingEligibility": "eligible",
        "Drain": False,
        "NodeResources": {"Cpu": {"CpuShares": 4000}, "Memory": {"MemoryMB": 8192}},
        "ReservedResources": {"Cpu": {"CpuShares": 500}, "Memory": {"MemoryMB": 192}},
        **changes,
    }


def allocation(status: str, mhz: int, mib: int) -> dict[str, Any]:
    def task(cpu: int, memory: int) -> dict[str, Any]:
        return {"Cpu": {"CpuShares": cpu}, "Memory": {"MemoryMB": memory}}

    return {
        "NodeID": "id-a",
        "ClientStatus": status,
        "AllocatedResources": {
            "Tasks": {"replica": task(mhz, mib), "prepare": task(10, 32)},
            "TaskLifecycles": {
                "replica": None,
                "prepare": {"Hook": "prestart", "Sidecar": False},
            },
        },
    }


def test_a_place_is_free_once_its_client_says_so() -> None:
    found = rooms_of(
        [node()],
        [
            allocation("running", 1000, 1000),
            allocation("pending", 1000, 10),
            allocation("complete", 500, 500),
            allocation("failed", 500, 500),
        ],
    )
    assert [(r.free_cpu_mhz, r.free_memory_mib, r.takes) for r in found] == [(1500, 6968, True)]
    for changes in (
        {"Status": "down"},
        {"SchedulingEligibility": "ineligible"},
        {"Drain": True},
    ):
        assert not rooms_of([node(**changes)], [])[0].takes


def test_what_ends_before_the_others_start_shares_their_place() -> None:
    def task(name: str, cpu: int, memory: int, hook: dict[str, Any] | None) -> dict[str, Any]:
        return {"Name": name, "Resources": {"CPU": cpu, "MemoryMB": memory}, "Lifecycle": hook}

    tasks = [
        task("prepare", 10, 300, {"Hook": "prestart", "Sidecar": False}),
        task("replica", 500, 100, None),
        task("beside", 100, 100, {"Hook": "poststart", "Sidecar": True}),
    ]
    asked = ask_of({"Tasks": tasks, "EphemeralDisk": {"SizeMB": 70}})
    assert asked == Ask(cpu_mhz=600, memory_mib=300, disk_mib=70)
