"""`make bench-cli`: CPU time of `serai --help` and `serai get` against a running Serai."""

import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median

from bench.report import at_most, finish
from tests.support.serai import SERAI, serving

RUNS = 20


def cpu_ms(command: list[str], environment: dict[str, str]) -> float:
    """Return the median CPU time of a command, user and system together, in milliseconds."""
    times = []
    for _ in range(RUNS):
        before = os.times()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        used_s = after.children_user - before.children_user
        used_s += after.children_system - before.children_system
        times.append(1000 * used_s)
    return median(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as serai:
        figures = {
            "help_cpu_ms": cpu_ms([SERAI, "--help"], serai.environment),
            "get_cpu_ms": cpu_ms([SERAI, "get"], serai.environment),
        }
    finish("cli", figures, {"help_cpu_ms": at_most(120), "get_cpu_ms": at_most(200)})


if __name__ == "__main__":
    main()
