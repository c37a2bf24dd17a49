"""Failed placements in words."""

from typing import Any

import msgspec

from serai_scheduler.nomad.placement import why_not_placed
from serai_scheduler.nomad.rooms import Ask, Room, ask_of, rooms_of

CORE = 1000
SMALL = Ask(cpu_mhz=500, memory_mib=512)
FULL: dict[str, Any] = {"NodesExhausted": 2, "DimensionExhausted": {"memory": 2}}


def room(
    node: str, free_mib: int, takes: bool = True, memory_mib: int = 8192, free_mhz: int = 1500
) -> Room:
    return Room(
        node=node,
        takes=takes,
        closed="" if takes else "cordoned",
        cpu_mhz=4000,
        memory_mib=memory_mib,
        free_cpu_mhz=free_mhz,
        free_memory_mib=free_mib,
    )


def test_a_full_cluster_is_waited_for_with_what_each_node_has() -> None:
    found = why_not_placed(SMALL, [room("a", 100), room("b", -5)], FULL, CORE)
    assert found.may_clear
    assert found.reason == (
        "waits for room: asks for 0.5 cores and 512Mi; "
        "free: a 1.5 cores and 100Mi, b 1.5 cores and 0Mi; would fit if 412Mi more were free on a"
    )


def test_what_would_make_it_fit_is_the_least_that_lacks_anywhere() -> None:
    ask = Ask(cpu_mhz=2000, memory_mib=2000)
    rooms = [room("a", 100), room("b", 1900), room("small", 900, memory_mib=1000)]
    told = why_not_placed(ask, rooms, FULL, CORE).reason
    assert told.endswith("; would fit if 0.5 cores and 100Mi more were free on b")
    rooms.append(room("c", 8000, free_mhz=1900))
    told = why_not_placed(ask, rooms, FULL, CORE).reason
    assert told.endswith("; would fit if 0.1 cores more were free on c")
    assert "would fit" not in why_not_placed(SMALL, [room("a", 8000)], FULL, CORE).reason


def test_many_nodes_are_not_all_listed() -> None:
    rooms = [room(f"n{number}", number) for number in range(9)]
    assert why_not_placed(SMALL, rooms, FULL, CORE).reason.endswith(
        "1.5 cores and 4Mi, 4 more; would fit if 504Mi more were free on n8"
    )


def test_what_no_node_could_ever_hold_is_told_apart() -> None:
    huge = Ask(cpu_mhz=500, memory_mib=65_536)
    found = why_not_placed(huge, [room("a", 8000), room("b", 8000)], FULL, CORE)
    assert not found.may_clear
    assert "asks for 0.5 cores and 64.0Gi, more than any node has in all" in found.reason
    wide = Ask(cpu_mhz=3000, memory_mib=9000)
    assert not why_not_placed(wide, [room("a", 8000)], FULL, CORE).may_clear


def test_what_a_closed_node_alone_could_hold_is_waited_for() -> None:
    large = Ask(cpu_mhz=500, memory_mib=60_000)
    big, small = room("big", 0, takes=False, memory_mib=65_536), room("small", 8000)
    found = why_not_placed(large, [big, small], FULL, CORE)
    assert found.may_clear
    assert found.reason == (
        "waits for a node that is closed now: asks for 0.5 cores and 58.6Gi; would fit on big "
        "(cordoned) once replicas are taken there, as by `serai node uncordon`; no other node has "
        "as much"
    )
    never = why_not_placed(Ask(cpu_mhz=500, memory_mib=70_000), [big, small], FULL, CORE)
    assert not never.may_clear and "(the largest, big, has 4.0 cores and 64.0Gi)" in never.reason


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


DISK = Ask(cpu_mhz=500, memory_mib=512, disk_mib=300)
GPUS = Ask(cpu_mhz=500, memory_mib=512, gpus=2)
DOCKER = Ask(cpu_mhz=500, memory_mib=512, drivers=("docker",))


def with_disk(node: str, free_mib: int, disk_mib: int = 10_000, takes: bool = True) -> Room:
    disk = {"disk_mib": disk_mib, "free_disk_mib": free_mib}
    return msgspec.structs.replace(room(node, 8000, takes), **disk)


def with_gpus(node: str, free: int, gpus: int = 4, takes: bool = True) -> Room:
    return msgspec.structs.replace(room(node, 8000, takes), gpus=gpus, free_gpus=free)


def with_drivers(node: str, *drivers: str, takes: bool = True, free_mib: int = 8000) -> Room:
    return msgspec.structs.replace(room(node, free_mib, takes), drivers=drivers)


def test_what_each_node_has_of_disk_is_told_where_disk_lacks() -> None:
    metric = {"DimensionExhausted": {"disk": 2}}
    found = why_not_placed(DISK, [with_disk("a", 100), with_disk("b", 250)], metric, CORE)
    assert found.may_clear
    assert found.reason == (
        "waits for room: asks for 0.5 cores, 512Mi and 300Mi of disk; "
        "free: a 1.5 cores, 7.8Gi and 100Mi of disk, b 1.5 cores, 7.8Gi and 250Mi of disk; "
        "would fit if 50Mi of disk more were free on b; "
        "no more disk: its files and logs may take 300Mi"
    )
    assert "of disk" not in why_not_placed(DISK, [with_disk("a", 9000)], FULL, CORE).reason


def test_what_each_node_has_of_gpus_is_told_where_some_are_asked_for() -> None:
    metric = {"DimensionExhausted": {"devices: no devices match request": 2}}
    found = why_not_placed(GPUS, [with_gpus("a", 0), with_gpus("b", 1)], metric, CORE)
    assert found.may_clear
    assert found.reason == (
        "waits for room: asks for 0.5 cores, 512Mi and 2 GPUs; "
        "free: a 1.5 cores, 7.8Gi and 0 GPUs, b 1.5 cores, 7.8Gi and 1 GPU; "
        "would fit if 1 GPU more were free on b; all GPUs are taken"
    )


def test_more_gpus_or_disk_than_any_node_has_is_told_with_what_the_largest_has() -> None:
    found = why_not_placed(GPUS, [with_gpus("a", 1, gpus=1), room("b", 9000)], {}, CORE)
    assert not found.may_clear
    assert found.reason == (
        "asks for 0.5 cores, 512Mi and 2 GPUs, more than any node has in all (the largest, a, has "
        "4.0 cores, 8.0Gi and 1 GPU): ask for less, or add a larger node"
    )
    told = why_not_placed(DISK, [with_disk("a", 200, disk_mib=200)], {}, CORE)
    assert not told.may_clear and "8.0Gi and 200Mi of disk" in told.reason


def test_gpus_or_disk_of_a_node_that_is_closed_are_waited_for() -> None:
    missing = {"ConstraintFiltered": {"missing devices": 1}}
    gpus = [with_gpus("big", 4, takes=False), with_gpus("small", 1, gpus=1)]
    disk = [with_disk("big", 9000, takes=False), with_disk("small", 200, disk_mib=200)]
    for ask, rooms, metric in ((GPUS, gpus, missing), (DISK, disk, {})):
        found = why_not_placed(ask, rooms, metric, CORE)
        assert found.may_clear and "would fit on big (cordoned) once" in found.reason
        assert found.reason.endswith("no other node has as much")


def test_a_driver_of_a_node_that_is_closed_is_waited_for() -> None:
    metric = {"ConstraintFiltered": {"missing drivers": 1}}
    bare = with_drivers("bare", "raw_exec")
    closed = with_drivers("big", "docker", "raw_exec", takes=False)
    found = why_not_placed(DOCKER, [bare, closed], metric, CORE)
    assert found.may_clear
    assert found.reason == (
        "waits for a node that is closed now: asks for 0.5 cores and 512Mi; would fit on big "
        "(cordoned) once replicas are taken there, as by `serai node uncordon`; no other node has "
        "its driver (docker)"
    )
    never = why_not_placed(DOCKER, [bare], metric, CORE)
    assert not never.may_clear
    assert "1 node without a driver that it needs" in never.reason


def test_only_nodes_that_could_run_it_are_told_as_what_is_free() -> None:
    metric = {"ConstraintFiltered": {"missing drivers": 1}, "DimensionExhausted": {"memory": 1}}
    rooms = [with_drivers("bare", "raw_exec"), with_drivers("full", "docker", free_mib=100)]
    found = why_not_placed(DOCKER, rooms, metric, CORE)
    assert found.may_clear
    assert "free: full 1.5 cores and 100Mi; would fit if 412Mi more were free on full" in (
        found.reason
    )


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
    for changes, word in (
        ({"Status": "down", "SchedulingEligibility": "ineligible"}, "down"),
        ({"SchedulingEligibility": "ineligible"}, "cordoned"),
        ({"Drain": True, "SchedulingEligibility": "ineligible"}, "draining"),
    ):
        (closed,) = rooms_of([node(**changes)], [])
        assert not closed.takes and closed.closed == word
    assert not rooms_of([node(Drain=True)], [])[0].takes


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


def test_disk_gpus_and_drivers_are_read_as_nomad_tells_them() -> None:
    working = [{"ID": "g1", "Healthy": True}, {"ID": "g2", "Healthy": True}, {"ID": "g3"}]
    offered = {
        "Cpu": {"CpuShares": 4000},
        "Memory": {"MemoryMB": 8192},
        "Disk": {"DiskMB": 9000},
        "Devices": [{"Type": "gpu", "Instances": working}, {"Type": "fpga", "Instances": working}],
    }
    kept = {"Cpu": {"CpuShares": 0}, "Memory": {"MemoryMB": 0}, "Disk": {"DiskMB": 1000}}
    drivers = {
        "docker": {"Detected": True, "Healthy": True},
        "exec": {"Detected": True, "Healthy": False},
    }
    taking = allocation("running", 1000, 1000)
    taking["AllocatedResources"]["Shared"] = {"DiskMB": 300}
    devices = [{"Type": "gpu", "DeviceIDs": ["g1"]}]
    taking["AllocatedResources"]["Tasks"]["replica"]["Devices"] = devices
    told = node(NodeResources=offered, ReservedResources=kept, Drivers=drivers)
    (found,) = rooms_of([told], [taking, {**taking, "ClientStatus": "complete"}])
    assert (found.disk_mib, found.free_disk_mib) == (8000, 7700)
    assert (found.gpus, found.free_gpus, found.drivers) == (2, 1, ("docker",))
    (unknown,) = rooms_of([node()], [])
    assert unknown.disk_mib is None and unknown.drivers is None


def test_gpus_and_drivers_are_asked_for_by_the_tasks_together() -> None:
    def task(driver: str, devices: list[dict[str, Any]] | None) -> dict[str, Any]:
        resources = {"CPU": 500, "MemoryMB": 100, "Devices": devices}
        return {"Name": driver, "Driver": driver, "Resources": resources}

    tasks = [task("raw_exec", None), task("docker", [{"Name": "nvidia/gpu", "Count": 2}])]
    asked = ask_of({"Tasks": tasks})
    assert (asked.gpus, asked.drivers) == (2, ("docker", "raw_exec"))
