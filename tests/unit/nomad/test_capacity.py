"""What a node has for replicas: all of it, less what Nomad keeps and what other jobs take."""

from typing import Any

from serai.engine import Capacity
from serai_scheduler.nomad.capacity import capacities
from serai_scheduler.nomad.nodes import nodes_of
from serai_scheduler.nomad.settings import JobSettings

SETTINGS = JobSettings(mhz_per_core=2000, default_memory_mib=256)


def node() -> dict[str, Any]:
    gpus = [{"ID": "g1", "Healthy": True}, {"ID": "g2", "Healthy": True}, {"ID": "g3"}]
    return {
        "ID": "id-a",
        "Name": "a",
        "Status": "ready",
        "SchedulingEligibility": "eligible",
        "NodeClass": "large",
        "NodeResources": {
            "Cpu": {"CpuShares": 9000},
            "Memory": {"MemoryMB": 8192},
            "Devices": [{"Type": "gpu", "Instances": gpus}, {"Type": "fpga", "Instances": gpus}],
        },
        "ReservedResources": {"Cpu": {"CpuShares": 1000}, "Memory": {"MemoryMB": 192}},
    }


def other(state: str = "running") -> dict[str, Any]:
    task = {
        "Cpu": {"CpuShares": 500},
        "Memory": {"MemoryMB": 1000},
        "Devices": [{"Type": "gpu", "DeviceIDs": ["g1"]}],
    }
    return {
        "NodeID": "id-a",
        "ClientStatus": state,
        "AllocatedResources": {"Tasks": {"main": task}},
    }


def test_all_that_works_and_that_nobody_else_has_is_for_replicas() -> None:
    assert capacities([node()], [], SETTINGS) == {
        "id-a": Capacity(cpu_millicores=4000, memory_mib=8000, gpus=2, unset_memory_mib=256)
    }


def test_other_jobs_take_their_part_until_they_have_ended() -> None:
    found = capacities([node()], [other(), other("complete")], SETTINGS)["id-a"]
    assert (found.cpu_millicores, found.memory_mib, found.gpus) == (3750, 7000, 1)


def test_a_node_tells_its_capacity_and_pool_where_they_are_known() -> None:
    (known,) = nodes_of([node()], {}, capacities([node()], [], SETTINGS))
    assert known.pool == "default" and known.capacity is not None and known.capacity.gpus == 2
    (unknown,) = nodes_of([node()])
    assert unknown.capacity is None
