"""The GPU probe against a driver that works, fails, hangs and changes under it."""

import asyncio
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from serai_agent.report.gpu import GpuProbe
from tests.integration.gpu.conftest import FAST, Driver, Probing
from tests.support.nvmlshim.states import MIB, Gpu
from tests.support.wait import auntil


async def first_reading(probe: GpuProbe) -> None:
    await auntil(lambda: probe.current().readings, what="no reading")


async def test_an_a100_and_a_t4_are_read(driver: Driver, probing: Probing) -> None:
    busy = {"mem_used": 8192 * MIB, "util": 90, "temp": 61, "power_mw": 312_500}
    driver.becomes(Gpu(0, "a100-40", busy), Gpu(1, "t4"))
    async with probing() as probe:
        assert probe.count() is None, "not known is not none"
        await first_reading(probe)
        assert probe.count() == 2
        gpus = probe.current()
    assert gpus.driver == "570.148.08"
    assert gpus.problem == ""
    assert gpus.age_s is not None
    assert gpus.age_s < 5
    a100, t4 = gpus.readings
    assert (a100.index, a100.uuid, a100.name) == (
        0,
        Gpu(0, "a100-40").uuid,
        "NVIDIA A100-SXM4-40GB",
    )
    assert (a100.memory_total_bytes, a100.memory_used_bytes) == (40960 * MIB, 8192 * MIB)
    assert (a100.utilization_percent, a100.temperature_celsius) == (90.0, 61.0)
    assert (a100.power_watts, a100.problem) == (312.5, "")
    # What the driver reserves is not in use: version 1 of the call would tell 448 MiB here.
    assert (t4.name, t4.memory_used_bytes, t4.utilization_percent) == ("Tesla T4", 0, 0.0)


async def test_a_change_is_seen_by_the_same_child(driver: Driver, probing: Probing) -> None:
    driver.becomes(Gpu(0, "t4"))
    async with probing() as probe:
        await first_reading(probe)
        driver.becomes(Gpu(0, "t4", {"util": 77}))
        await auntil(lambda: probe.current().readings[0].utilization_percent == 77)
        driver.becomes(Gpu(0, "t4"), Gpu(1, "t4"))
        await auntil(lambda: len(probe.current().readings) == 2)
        assert probe.children_started == 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"fail": 15}, "lost: GPU is lost (15)"),
        ({"fail_handle": 999}, "lost: Unknown Error (999)"),
        ({"fail": 16}, "lost: "),
    ],
)
async def test_a_lost_gpu_does_not_spoil_the_others(
    driver: Driver, probing: Probing, fault: dict[str, int], told: str
) -> None:
    driver.becomes(Gpu(0, "a100-40"), Gpu(1, "a100-40", dict(fault)), Gpu(2, "a100-40"))
    async with probing() as probe:
        await first_reading(probe)
        first, lost, third = probe.current().readings
    assert first.problem == third.problem == ""
    assert first.memory_total_bytes == third.memory_total_bytes == 40960 * MIB
    assert lost.index == 1
    assert lost.problem.startswith(told)
    assert lost.memory_total_bytes is lost.utilization_percent is lost.power_watts is None


async def test_a_gpu_that_falls_off_keeps_its_name_and_may_return(
    driver: Driver, probing: Probing
) -> None:
    healthy = Gpu(0, "a100-40"), Gpu(1, "t4")
    driver.becomes(*healthy)
    async with probing() as probe:
        await first_reading(probe)
        driver.becomes(healthy[0], replace(healthy[1], values={"fail": 15}))
        await auntil(lambda: probe.current().readings[1].problem)
        lost = probe.current().readings[1]
        assert (lost.uuid, lost.name) == (healthy[1].uuid, "Tesla T4")
        driver.becomes(*healthy)
        await auntil(lambda: not probe.current().readings[1].problem)
        assert probe.children_started == 1


async def test_one_broken_value_leaves_the_rest(driver: Driver, probing: Probing) -> None:
    driver.becomes(Gpu(0, "t4", lines=("err nvmlDeviceGetPowerUsage 999",)))
    async with probing() as probe:
        await first_reading(probe)
        (gpu,) = probe.current().readings
    assert gpu.power_watts is None
    assert gpu.problem == "power: Unknown Error (999)"
    assert gpu.temperature_celsius == 35.0


async def test_what_a_gpu_cannot_say_is_none_without_a_problem(
    driver: Driver, probing: Probing
) -> None:
    mig = ("mig 0 1 0 MIG-1 20937965568 0 42 3 3",)
    driver.becomes(Gpu(0, "a100-40", {"mig_mode": 1, "power_mw": None}, mig))
    async with probing() as probe:
        await first_reading(probe)
        asked = driver.calls("nvmlDeviceGetUtilizationRates")
        memory_asked = driver.calls("nvmlDeviceGetMemoryInfo_v2")
        await auntil(lambda: driver.calls("nvmlDeviceGetMemoryInfo_v2") > memory_asked + 3)
        (gpu,) = probe.current().readings
    assert (gpu.utilization_percent, gpu.power_watts, gpu.problem) == (None, None, "")
    assert gpu.memory_total_bytes == 40960 * MIB
    # What is not supported is remembered, not asked each time.
    assert driver.calls("nvmlDeviceGetUtilizationRates") == asked == 1


async def test_an_old_driver_is_asked_the_old_way(driver: Driver, probing: Probing) -> None:
    old = ("err nvmlDeviceGetMemoryInfo_v2 13", "err nvmlDeviceGetTemperatureV 13")
    driver.becomes(Gpu(0, "t4", {"mem_used": MIB}, old))
    async with probing() as probe:
        await first_reading(probe)
        (gpu,) = probe.current().readings
    assert (gpu.memory_used_bytes, gpu.temperature_celsius) == (449 * MIB, 35.0)
    assert gpu.problem == ""


async def test_a_reading_costs_few_calls(driver: Driver, probing: Probing) -> None:
    driver.becomes(Gpu(0, "a100-40"), Gpu(1, "a100-40"))
    async with probing() as probe:
        await first_reading(probe)
        await auntil(lambda: driver.calls("nvmlDeviceGetCount_v2") >= 4)
    # Handles are looked up once; that call is dear where the driver does not stay awake.
    assert driver.calls("nvmlDeviceGetHandleByIndex_v2") == 2
    assert driver.calls("nvmlInit") == 1


async def test_a_hang_is_killed_and_the_readings_age_meanwhile(
    driver: Driver, probing: Probing, caplog: pytest.LogCaptureFixture
) -> None:
    driver.becomes(Gpu(0, "a100-40"))
    async with probing() as probe:
        await first_reading(probe)
        hung = probe.child_pid
        assert hung is not None
        driver.becomes(Gpu(0, "a100-40", lines=("delay nvmlDeviceGetMemoryInfo_v2 60000",)))
        await auntil(lambda: probe.current().problem, within_s=5)
        gpus = probe.current()
        assert gpus.problem == "NVML gave no answer within 0.5 s"
        assert gpus.readings[0].memory_total_bytes == 40960 * MIB
        assert gpus.age_s is not None
        assert gpus.age_s >= 0.4
        assert not psutil.pid_exists(hung)
        driver.becomes(Gpu(0, "a100-40", {"util": 5}))
        await auntil(lambda: not probe.current().problem, within_s=30)
        assert probe.current().readings[0].utilization_percent == 5.0
        assert probe.children_started >= 2
    assert [r.message for r in caplog.records if "cannot be read" in r.message] == [
        "gpus cannot be read"
    ]


async def test_a_driver_that_hangs_while_it_wakes_is_given_up(
    driver: Driver, probing: Probing
) -> None:
    driver.becomes(Gpu(0, "t4"), lines=("init_delay_ms 60000",))
    async with probing(replace(FAST, first_deadline_s=1.0)) as probe:
        await auntil(lambda: "no answer within 1 s" in probe.current().problem)
        assert probe.current().readings == ()
        assert probe.current().age_s is None


async def test_a_child_that_dies_is_replaced(driver: Driver, probing: Probing) -> None:
    driver.becomes(Gpu(0, "t4"))
    async with probing() as probe:
        await first_reading(probe)
        first = probe.child_pid
        assert first is not None
        psutil.Process(first).kill()
        await auntil(lambda: probe.child_pid not in (first, None) and not probe.current().problem)


async def test_no_library_is_said_once_and_tried_again_rarely(
    driver: Driver, probing: Probing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driver = replace(driver, library=tmp_path / "nowhere" / "none")
    with caplog.at_level(logging.INFO):
        async with probing(environment=driver.environment) as probe:
            await auntil(lambda: probe.children_started >= 3, within_s=30)
            gpus = probe.current()
    assert gpus.problem.startswith("no NVIDIA driver: NVML Shared Library Not Found")
    assert gpus.readings == ()
    told = [r for r in caplog.records if r.message == "gpus cannot be read"]
    assert [r.levelno for r in told] == [logging.INFO]


async def test_a_driver_that_appears_is_found(driver: Driver, probing: Probing) -> None:
    driver.becomes(lines=("init_error 9",))
    async with probing() as probe:
        await auntil(lambda: probe.current().problem.startswith("no NVIDIA driver: Driver Not"))
        driver.becomes(Gpu(0, "t4"))
        await first_reading(probe)
        assert probe.current().problem == ""


async def test_an_upgraded_driver_needs_a_new_child(driver: Driver, probing: Probing) -> None:
    driver.becomes(Gpu(0, "t4"))
    async with probing() as probe:
        await first_reading(probe)
        driver.becomes(Gpu(0, "t4"), lines=("err nvmlDeviceGetCount_v2 18", "init_error 18"))
        await auntil(lambda: "(18)" in probe.current().problem)
        driver.becomes(Gpu(0, "t4"))
        await auntil(lambda: not probe.current().problem)
        assert probe.children_started >= 2


async def test_the_child_ends_with_the_probe(driver: Driver, probing: Probing) -> None:
    driver.becomes(Gpu(0, "t4"))
    async with probing() as probe:
        await first_reading(probe)
        pid = probe.child_pid
        assert pid is not None
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("hanging", [False, True])
async def test_the_child_ends_with_its_parent(
    driver: Driver, tmp_path: Path, hanging: bool
) -> None:
    lines = ("delay nvmlDeviceGetMemoryInfo_v2 60000",) if hanging else ()
    driver.becomes(Gpu(0, "t4", lines=lines))
    program = (
        "import asyncio, json, random, sys\n"
        "from serai.clock import SystemClock\n"
        "from serai_agent.report.gpu import GpuProbe, GpuProbeSettings\n"
        "environment = json.loads(sys.argv[1])\n"
        "settings = GpuProbeSettings(environment=environment)\n"
        "asyncio.run(GpuProbe(SystemClock(), random.Random(), settings).run())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, json.dumps(driver.environment))
    )
    try:
        await auntil(lambda: driver.calls("nvmlDeviceGetMemoryInfo_v2") >= 1)
        (child,) = psutil.Process(parent.pid).children()
    finally:
        parent.kill()
        await parent.wait()
    await auntil(lambda: not child.is_running(), within_s=5)
