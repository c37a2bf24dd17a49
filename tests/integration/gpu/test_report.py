"""The whole report beside a driver that hangs: the beat goes on, and says how old the GPUs are."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

from prometheus_client import CollectorRegistry

from serai import wire
from serai.clock import SystemClock
from serai.metrics import LoopMetrics, Metrics
from serai.report import NodeReport
from serai.report_accept import Last, accept, newest
from serai.supervisor import Supervisor
from serai_agent.report.beat import Identity
from serai_agent.report.gauges import ReportGauges
from serai_agent.report.gpu import GpuProbe
from serai_agent.report.node import NodeReader
from serai_agent.report.sender import ReportLoop, Sources
from tests.integration.gpu.conftest import FAST, Driver
from tests.support.nvmlshim.states import Gpu
from tests.support.wait import auntil

PERIOD_S = 0.05


class Receiver:
    """Takes reports as a scheduler does."""

    def __init__(self) -> None:
        self.last: dict[str, Last] = {}
        self.reports: list[NodeReport] = []
        self.demand_since = 0

    async def send(self, report: NodeReport) -> None:
        taken = accept(wire.encode(report), self.last.get)
        self.last[taken.node] = newest(taken)
        self.reports.append(taken)


async def test_a_hanging_driver_does_not_hold_up_the_report(driver: Driver, tmp_path: Path) -> None:
    driver.becomes(Gpu(0, "a100-40"), Gpu(1, "t4", {"fail": 15}))
    metrics = Metrics("agent", CollectorRegistry())
    clock, receiver = SystemClock(), Receiver()
    who = Identity(node="n1", started_at_s=clock.wall(), serai_version="0", roles=("runner",))
    settings = replace(FAST, deadline_s=1.0, environment=driver.environment)
    async with Supervisor(clock, Random(1), LoopMetrics(metrics)) as loops:
        probe = GpuProbe(clock, Random(2), settings, loops.lateness("gpus"))
        sources = Sources(NodeReader(tmp_path).read, probe.current)
        loop = ReportLoop(who, sources, receiver, clock, ReportGauges(metrics))
        loops.start("gpus", probe.run)
        loops.start_periodic("report", PERIOD_S, loop.step)
        await auntil(lambda: receiver.reports and receiver.reports[-1].gpus.readings)
        driver.becomes(Gpu(0, "a100-40", lines=("delay * 60000",)))
        await auntil(lambda: receiver.reports[-1].gpus.problem)
    told = next(report for report in receiver.reports if "no answer" in report.gpus.problem)
    assert told.gpus.problem == "NVML gave no answer within 1 s"
    assert [gpu.name for gpu in told.gpus.readings] == ["NVIDIA A100-SXM4-40GB", ""]
    assert told.gpus.readings[1].problem.startswith("lost: GPU is lost")
    assert told.cpu_percent is not None
    # Reports went on all through the second that the driver hung, telling an older age each time.
    before = receiver.reports[: receiver.reports.index(told)]
    assert sum((report.gpus.age_s or 0) > 0.4 for report in before) >= 3
    assert [r.sequence for r in receiver.reports] == list(range(1, len(receiver.reports) + 1))


def test_the_agent_itself_never_loads_the_binding() -> None:
    program = (
        "import sys\n"
        "import serai_agent.report.gpu, serai_agent.report.sender, serai_agent.report.health\n"
        "assert 'pynvml' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
