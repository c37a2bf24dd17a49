"""Load at a constant rate, whatever the answers do: the open-loop generator vegeta."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

WORK = Path(__file__).resolve().parent.parent / ".work" / "bin"
MODULE = "github.com/tsenart/vegeta/v12@v12.12.0"


@dataclass(frozen=True)
class Seen:
    """Latencies in milliseconds, and the part of the requests that was answered 200."""

    p50_ms: float
    p99_ms: float
    success: float


def program() -> str | None:
    """Return vegeta, built into the benchmarks' folder if it is nowhere; None without Go."""
    found = shutil.which("vegeta") or shutil.which("vegeta", path=str(WORK))
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found or not go:
        return found
    print("building vegeta", flush=True)
    environment = {**os.environ, "GOBIN": str(WORK)}
    subprocess.run([go, "install", MODULE], env=environment, check=True, timeout=600)
    return shutil.which("vegeta", path=str(WORK))


def attack(vegeta: str, url: str, rate: int, seconds: float) -> Seen:
    """Send a constant rate of requests."""
    load = subprocess.run(
        [vegeta, "attack", f"-rate={rate}", f"-duration={seconds:g}s", "-timeout=10s"],
        input=f"GET {url}\n".encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=seconds + 60,
    )
    report = subprocess.run(
        [vegeta, "report", "-type=json"],
        input=load.stdout,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    told = json.loads(report.stdout)
    latencies = told["latencies"]
    return Seen(latencies["50th"] / 1e6, latencies["99th"] / 1e6, told["success"])
