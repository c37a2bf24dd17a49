"""The stand-in driver itself, seen through the unmodified binding in a process of its own."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.gpu.conftest import Driver
from tests.support.nvmlshim.build import stubs_for, wanted_names
from tests.support.nvmlshim.states import MIB, Gpu

PRELUDE = """
import json, os, sys
import pynvml as N
from pynvml import *
def tried(call, *arguments):
    try:
        return call(*arguments)
    except NVMLError as error:
        return f"error {error.value}"
def state(text):
    path = os.environ["NVMLSHIM_STATE"]
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)
"""


def seen(driver: Driver, program: str) -> Any:
    """Run a program that sets `answer`, and return that."""
    text = f"{PRELUDE}\n{program}\nprint(json.dumps(answer))"
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, **driver.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_profiles_answer_as_published_captures_do(driver: Driver) -> None:
    driver.becomes(Gpu(0, "a100-40", {"mem_used": 100 * MIB}), Gpu(1, "h100-80"), Gpu(2, "t4"))
    program = """
nvmlInit()
def memory(handle, **version):
    info = nvmlDeviceGetMemoryInfo(handle, **version)
    return [info.total >> 20, info.used >> 20]
handles = [nvmlDeviceGetHandleByIndex(i) for i in range(nvmlDeviceGetCount())]
answer = dict(
    driver=nvmlSystemGetDriverVersion(), cuda=nvmlSystemGetCudaDriverVersion(),
    names=[nvmlDeviceGetName(h) for h in handles],
    new=memory(handles[0], version=nvmlMemory_v2), old=memory(handles[0]),
    same=[nvmlDeviceGetIndex(nvmlDeviceGetHandleByUUID(nvmlDeviceGetUUID(h))) for h in handles],
    margin=[tried(nvmlDeviceGetMarginTemperature, h) for h in handles],
    bus=nvmlDeviceGetPciInfo(handles[1]).busId,
    past=tried(nvmlDeviceGetHandleByIndex, 3),
    retired=[isinstance(tried(nvmlDeviceGetRetiredPagesPendingStatus, h), int) for h in handles],
)
"""
    answer = seen(driver, program)
    assert answer["names"] == ["NVIDIA A100-SXM4-40GB", "NVIDIA H100 80GB HBM3", "Tesla T4"]
    assert (answer["driver"], answer["cuda"]) == ("570.148.08", 12080)
    assert (answer["new"], answer["old"]) == ([40960, 100], [40960, 618])
    assert answer["same"] == [0, 1, 2]
    assert answer["margin"] == ["error 3", 50, "error 3"]
    assert answer["bus"] == "00000000:0F:00.0"
    assert answer["past"] == "error 2"
    assert answer["retired"] == [False, False, True]


def test_processes_and_partitions(driver: Driver) -> None:
    lines = (
        "proc C 41 1048576 1 0",
        "proc C 42 2097152 2 0",
        "mig 0 1 0 MIG-a 20937965568 1048576 42 3 3",
        "mig 2 2 0 MIG-c 20937965568 2097152 42 3 3",
    )
    driver.becomes(Gpu(0, "a100-40", {"mig_mode": 1}, lines), Gpu(1, "t4"))
    program = """
nvmlInit()
gpu, plain = nvmlDeviceGetHandleByIndex(0), nvmlDeviceGetHandleByIndex(1)
def instance(index):
    handle = nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
    processes = nvmlDeviceGetComputeRunningProcesses_v3(handle)
    return [nvmlDeviceGetUUID(handle), [process.pid for process in processes]]
answer = dict(
    all=[p.pid for p in nvmlDeviceGetComputeRunningProcesses_v3(gpu)],
    none=[p.pid for p in nvmlDeviceGetComputeRunningProcesses_v3(plain)],
    instances=[tried(instance, index) for index in range(nvmlDeviceGetMaxMigDeviceCount(gpu))],
    utilization=tried(nvmlDeviceGetUtilizationRates, gpu),
    mode=[tried(nvmlDeviceGetMigMode, gpu), tried(nvmlDeviceGetMigMode, plain)],
)
"""
    answer = seen(driver, program)
    assert (answer["all"], answer["none"]) == ([41, 42], [])
    gone = "error 6"
    assert answer["instances"] == [["MIG-a", [41]], gone, ["MIG-c", [42]], gone, gone, gone, gone]
    assert answer["utilization"] == "error 3"
    assert answer["mode"] == [[1, 1], "error 3"]


def test_an_event_arrives_once_and_only_after_registration(driver: Driver) -> None:
    driver.becomes(Gpu(0, "a100-40"), lines=("event 1 0 8 13",))
    program = """
nvmlInit()
gpu = nvmlDeviceGetHandleByIndex(0)
events = nvmlEventSetCreate()
nvmlDeviceRegisterEvents(gpu, nvmlEventTypeXidCriticalError, events)
def wait():
    return tried(lambda: nvmlEventSetWait_v2(events, 30).eventData)
before = open(os.environ["NVMLSHIM_STATE"]).read()
answer = [wait()]
state(before + "event 2 0 8 79\\n")
answer += [wait(), wait()]
"""
    # An `event` line may stand anywhere, so one more at the end is a new event.
    assert seen(driver, program) == ["error 10", 79, "error 10"]


def test_faults_are_injected_where_they_are_meant(driver: Driver) -> None:
    fault = ("err nvmlDeviceGetPowerUsage 999",)
    driver.becomes(
        Gpu(0, "t4", lines=fault), Gpu(1, "t4"), lines=("err nvmlSystemGetDriverVersion 4",)
    )
    program = """
early = tried(nvmlDeviceGetCount)
nvmlInit()
handles = [nvmlDeviceGetHandleByIndex(i) for i in range(2)]
answer = [early, [tried(nvmlDeviceGetPowerUsage, h) for h in handles],
          tried(nvmlSystemGetDriverVersion), nvmlDeviceGetName(handles[0])]
"""
    assert seen(driver, program) == ["error 1", ["error 999", 70000], "error 4", "Tesla T4"]
    assert driver.calls("nvmlDeviceGetPowerUsage") == 2


@pytest.mark.parametrize("code", [9, 18])
def test_a_driver_that_cannot_be_reached(driver: Driver, code: int) -> None:
    driver.becomes(lines=(f"init_error {code}",))
    assert seen(driver, "answer = tried(nvmlInit)") == f"error {code}"


def test_every_name_of_the_binding_is_there(driver: Driver) -> None:
    names = wanted_names()
    assert len(names) > 300
    assert stubs_for(["nvmlX"]).count("nvmlX(void)") == 2
    driver.becomes(Gpu(0, "t4"))
    program = f"""
import ctypes
library = ctypes.CDLL("libnvidia-ml.so.1")
answer = [name for name in {names!r} if not hasattr(library, name)]
"""
    assert seen(driver, program) == []
