"""A stand-in for the NVIDIA driver, built once per test run."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from serai.clock import SystemClock
from serai_agent.report.gpu import GpuProbe, GpuProbeSettings
from tests.support.nvmlshim import states
from tests.support.nvmlshim.build import build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvmlshim"))


@dataclass(frozen=True)
class Driver:
    """One stand-in driver: what it answers now, and what it was asked."""

    library: Path
    state: Path
    calls_file: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_LIBRARY_PATH": str(self.library.parent),
            "NVMLSHIM_STATE": str(self.state),
            "NVMLSHIM_CALLS": str(self.calls_file),
        }

    def becomes(self, *gpus: states.Gpu, lines: tuple[str, ...] = ()) -> None:
        states.write(self.state, gpus, lines)

    def calls(self, name: str) -> int:
        if not self.calls_file.exists():
            return 0
        return sum(line.split()[0] == name for line in self.calls_file.read_text().splitlines())


@pytest.fixture
def driver(library: Path, tmp_path: Path) -> Driver:
    return Driver(library, tmp_path / "state", tmp_path / "calls")


FAST = GpuProbeSettings(
    period_s=0.05,
    deadline_s=0.5,
    first_deadline_s=20.0,
    first_delay_s=0.05,
    absent_retry_s=0.3,
)

Probing = Callable[..., AbstractAsyncContextManager[GpuProbe]]


@pytest.fixture
def probing(driver: Driver) -> Probing:
    """Run a probe on the stand-in driver for as long as the block lasts."""

    @asynccontextmanager
    async def run(
        settings: GpuProbeSettings = FAST, environment: Mapping[str, str] | None = None
    ) -> AsyncIterator[GpuProbe]:
        settings = replace(settings, environment=environment or driver.environment)
        probe = GpuProbe(SystemClock(), Random(7), settings)
        task = asyncio.create_task(probe.run())
        try:
            yield probe
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return run
