"""Runs the outside simulator in an environment of its own, and reads what it found."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import ROOT

SHARED = ROOT.parent / "shared"
SIMULATOR = SHARED / "bench" / "autosim.py"
TRACES = SHARED / "traces"
HOME = ROOT / "bench" / ".work" / "autoscale"
PYTHON = HOME / "bin" / "python"
PACKAGES = ("numpy>=2,<3", "matplotlib>=3.9,<4", "msgspec>=0.19")
RAY = "ray[serve]==2.60.0"
INSTALL_LIMIT_S = 900
RUN_LIMIT_S = 3600


@dataclass(frozen=True)
class Run:
    """What one policy did with one trace, size and cold start."""

    policy: str
    trace: str
    peak: int
    cold_s: int
    late_percent: float
    hours: float
    """Relative to those of a schedule that knows the future."""
    events_per_hour: float

    @property
    def case(self) -> tuple[str, int, int]:
        return self.trace, self.peak, self.cold_s


@dataclass(frozen=True)
class Grid:
    """What is simulated; no traces are all there are."""

    peaks: tuple[int, ...] = (5, 20, 100)
    colds_s: tuple[int, ...] = (15, 60, 120)
    traces: tuple[str, ...] = ()
    jobs: int = 2


def missing() -> str | None:
    """Say what is not there of what the simulation needs."""
    if not SIMULATOR.is_file():
        return (
            f"the simulator is not at {SIMULATOR}: it comes with the reference folder `shared`, "
            "which is kept beside the repository; put it there and run this again"
        )
    if not any(TRACES.glob("*.csv.gz")):
        return f"there are no traces in {TRACES}; put the reference folder `shared` there"
    return None


def install() -> str | None:
    """Make the environment if there is none; say why Ray is not in it, if it is not.

    Raises RuntimeError when the rest cannot be had either.
    """
    uv = str(ROOT / ".venv" / "bin" / "uv")
    if not PYTHON.exists():
        _run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(HOME)])
    into = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(PYTHON)]
    _run([*into, *PACKAGES])
    try:
        _run([*into, RAY])
    except RuntimeError as error:
        return f"{RAY} could not be installed: {error}"
    return None


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-300:] or f"{command[0]} failed")


def simulate(grid: Grid, policies: Sequence[str], outside: dict[str, str]) -> list[Run]:
    """Run the simulator's own policies and those of others, by label `module:factory`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "runs.json"
        command = [str(PYTHON), str(SIMULATOR), "table", "--out", str(out)]
        command += ["--jobs", str(grid.jobs), "--policies", ",".join(policies)]
        command += ["--peaks", ",".join(map(str, grid.peaks))]
        command += ["--colds", ",".join(map(str, grid.colds_s))]
        command += ["--traces", ",".join(grid.traces)]
        for label, factory in outside.items():
            command += ["--policy", f"{label}={factory}"]
        subprocess.run(command, cwd=ROOT, env=_environment(), check=True, timeout=RUN_LIMIT_S)
        return [_read(row) for row in json.loads(out.read_text())]


def _environment() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "common"), str(ROOT / "scheduler")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RAY_USAGE_STATS_ENABLED": "0"}


def _read(row: dict[str, float | str]) -> Run:
    return Run(
        policy=str(row["policy"]),
        trace=str(row["trace"]),
        peak=int(row["peak"]),
        cold_s=int(row["cold"]),
        late_percent=float(row["viol"]),
        hours=float(row["rel"]),
        events_per_hour=float(row["events"]) / float(row["span_h"]),
    )
