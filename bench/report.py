"""What every benchmark ends with: figures against limits, kept in a file, one JSON line last."""

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"

Figure = float | int | str | bool | None
"""A number or a flag that was measured, or in words why there is none."""

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda found, bound: found <= bound,
    ">=": lambda found, bound: found >= bound,
    "==": lambda found, bound: found == bound,
}


@dataclass(frozen=True)
class Limit:
    """A bound that a figure of the same name has to keep."""

    op: str
    bound: float

    def holds(self, found: Figure) -> bool:
        """Say whether a figure keeps the bound; one that is missing or in words does not."""
        if isinstance(found, str) or found is None:
            return False
        return _HOLDS[self.op](found, self.bound)


def at_most(bound: float) -> Limit:
    return Limit("<=", bound)


def at_least(bound: float) -> Limit:
    return Limit(">=", bound)


def exactly(bound: float) -> Limit:
    return Limit("==", bound)


def finish(
    name: str, figures: Mapping[str, Figure], limits: Mapping[str, Limit], folder: Path = RESULTS
) -> bool:
    """Keep the result in `folder`, print the JSON line, and say whether every limit held.

    Each limit is on the figure of the same name. Missing a limit is no error of the program: it
    exits 0 in both cases, and `ok` tells.
    """
    rounded = {key: _rounded(value) for key, value in figures.items()}
    verdicts = {
        key: {"limit": f"{limit.op} {limit.bound:g}", "ok": limit.holds(figures.get(key))}
        for key, limit in limits.items()
    }
    now = datetime.datetime.now(datetime.UTC)
    result = {
        "bench": name,
        "ok": all(verdict["ok"] for verdict in verdicts.values()),
        "figures": rounded,
        "limits": verdicts,
        "commit": commit(),
        "date": now.isoformat(timespec="seconds"),
    }
    kept = {**result, "command": " ".join(["python", "-m", *_command()]), "machine": machine()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{now:%Y-%m-%d}.json"
    path.write_text(json.dumps(kept, indent=2) + "\n")
    for key, verdict in verdicts.items():
        mark = "ok  " if verdict["ok"] else "MISS"
        print(f"{mark} {key} = {rounded.get(key)} (limit {verdict['limit']})")
    print(json.dumps(result), flush=True)
    return bool(result["ok"])


def _rounded(value: Figure) -> Figure:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _command() -> list[str]:
    main = sys.modules["__main__"].__spec__
    module = main.name.removesuffix(".__main__") if main is not None else Path(sys.argv[0]).name
    return [module, *sys.argv[1:]]


def commit() -> str:
    """Return the commit that is checked out, with a mark when files differ from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        but_results = ("--", ".", f":!{RESULTS.relative_to(ROOT)}")
        changed = _git("status", "--porcelain", "-uno", *but_results)
        return head + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


def machine() -> dict[str, Figure]:
    """Describe the machine that was measured on."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1min": os.getloadavg()[0],
    }


def _field(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(key))
    return next(found, "")


def interleaved(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure every variant once per round, turn by turn, so that drift hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(variants[name]())
    return found


def ratio(found: Mapping[str, list[float]], name: str, base: str) -> float:
    """Return the median over the rounds of one variant against another in the same round."""
    return median(a / b for a, b in zip(found[name], found[base], strict=True))
